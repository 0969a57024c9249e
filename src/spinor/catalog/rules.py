"""Pure decisions of the catalog: which names there are, who may write where, what a metadata value may be."""

import functools
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

import msgspec

from spinor.access import Caller, Scope
from spinor.catalog.errors import BadLFN, BadMetadata, BadPFN, PathOutsideVO
from spinor.catalog.models import Access, MetadataType, MetadataValue
from spinor.errors import SpinorError
from spinor.search.expression import shown

MAX_NAME_BYTES = 255
LAST_NAME = "\U0010ffff" * 64  # No name comes after it: names have at most 255 bytes.
MAX_PATH_BYTES = 4096
MAX_REMOVED_FILES = 10_000  # By one request; file operations remove any number.
ROOT_MODE = 0o1775  # All of the VO may put things there, and each may take away their own.
STICKY, SETGID = 0o1000, 0o2000
_BIGGEST = 2**63 - 1
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9_.=+~-]*){2,}")

# The fields of a file that every search knows; no metadata key may hide one.
BUILT_IN_FIELDS = (
    "lfn", "path", "name", "size", "size_bytes", "owner", "group", "mode", "created", "modified", "se", "replicas",
    "status", "adler32", "sha256", "guid",
)  # fmt: skip
# What DIRAC calls them. A metadata key may be named so too, and is meant then.
DIRAC_NAMES = {
    "Name": "name", "FileName": "name", "LFN": "lfn", "Path": "path", "Size": "size", "User": "owner", "Owner": "owner",
    "OwnerName": "owner", "Group": "group", "OwnerGroup": "group", "CreationDate": "created",
    "ModificationDate": "modified", "SE": "se", "Status": "status", "CheckSum": "adler32", "Checksum": "adler32",
    "GUID": "guid", "Mode": "mode",
}  # fmt: skip
_KEY = re.compile(r"[^\W\d]\w*(?:[.:-]\w+)*")


READ, WRITE, PASS = 4, 2, 1  # Bits of one class; to pass a directory is to reach what is in it.
FILE_MODE, DIRECTORY_MODE = 0o644, 0o755


def bits_of(access: Access, caller: Caller) -> int:
    """What the caller may do: READ, WRITE and PASS (POSIX.1e draft 17, 23.1.5: the access check algorithm).

    Each bit answers for itself alone. The first class that the caller is in decides. `files:manage` stands above all.
    With an ACL the mode's group bits are its mask, as in POSIX, and the owning group's own bits stand in the ACL.
    """
    if caller.may(Scope.FILES_MANAGE):
        return 7
    if access.owner_id is not None and access.owner_id == caller.user_id:
        return access.mode >> 6 & 7
    in_group = access.group_id is None or access.group_id == caller.group_id
    middle = access.mode >> 3 & 7
    if not access.acl:
        return middle if in_group else access.mode & 7
    acl = read_acl(access.acl)
    if (named := acl.get(f"u{caller.user_id}")) is not None:
        return named & middle
    of_group = acl.get(f"g{caller.group_id}")
    if in_group or of_group is not None:
        return ((acl["g"] if in_group else 0) | (of_group or 0)) & middle
    return access.mode & 7


def may_take(directory: Access, owner_id: int | None, caller: Caller) -> bool:
    """Whether the caller may take an entry of this owner out of the directory (POSIX, with its sticky bit)."""
    if bits_of(directory, caller) & (WRITE | PASS) != WRITE | PASS:
        return False
    return not keeps_others(directory, caller) or owner_id == caller.user_id


def keeps_others(directory: Access, caller: Caller) -> bool:
    """Whether the directory's sticky bit keeps the caller from taking away what others own in it."""
    if caller.may(Scope.FILES_MANAGE) or not directory.mode & STICKY:
        return False
    return directory.owner_id is None or directory.owner_id != caller.user_id


@functools.lru_cache(maxsize=10_000)
def read_acl(text: str) -> Mapping[str, int]:
    """An ACL as it is stored, `g=5,g5=5,u17=7`: the owning group's bits (`g`), and those of named groups and users by
    id; its mask are the mode's group bits. A default ACL also has the owner's (`u`), others' (`o`) and the mask (`m`).
    """
    entries = (entry.partition("=") for entry in text.split(",") if entry)
    return MappingProxyType({who: int(bits) for who, _, bits in entries})


def write_acl(entries: Mapping[str, int]) -> str:
    """The one text of these entries."""
    return ",".join(f"{who}={bits}" for who, bits in sorted(entries.items()))


def access_of_new(parent: Access, caller: Caller, *, directory: bool) -> Access:
    """What a new file or directory gets: the caller's, by the parent's default ACL, in its group if that is set so."""
    group_id = parent.group_id if parent.mode & SETGID and parent.group_id is not None else caller.group_id
    mode = DIRECTORY_MODE if directory else FILE_MODE
    acl, default_acl = "", ""
    if parent.default_acl:
        default = read_acl(parent.default_acl)
        most = 0o777 if directory else 0o666
        mode = (default["u"] << 6 | default.get("m", default["g"]) << 3 | default["o"]) & most
        if "m" in default:
            acl = write_acl({who: bits for who, bits in default.items() if who not in ("u", "o", "m")})
        default_acl = parent.default_acl if directory else ""
    if directory:
        mode |= parent.mode & SETGID
    return Access(owner_id=caller.user_id, group_id=group_id, mode=mode, acl=acl, default_acl=default_acl)


def name_fault(name: str) -> str | None:
    """Why this cannot be the name of a file or directory, as the end of a sentence that begins with the name."""
    if name in ("", ".", ".."):
        return "is empty" if not name else "is . or .., which no path may contain"
    if "\0" in name or "/" in name:
        return "contains NUL or /"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode (a lone surrogate)"
    return f"has {size:,} bytes in UTF-8; a name has at most {MAX_NAME_BYTES}" if size > MAX_NAME_BYTES else None


def path_fault(path: str, vo: str) -> SpinorError | None:
    """What is wrong with an absolute path in the catalog, as an error to raise or to report."""
    if not path.startswith("/"):
        return BadLFN(f"{shown(path)} does not begin with /; a path of your VO begins with /{vo}/.", lfn=_safe(path))
    if path == "/":
        return PathOutsideVO(f"/ is above your VO {vo!r}, whose tree begins at /{vo}.", lfn=path, vo=vo)
    for name in path[1:].split("/"):
        if fault := name_fault(name):
            return BadLFN(f"{shown(path)} is no name in the catalog: the part {shown(name)} {fault}.", lfn=_safe(path))
    if len(path.encode()) > MAX_PATH_BYTES:
        return BadLFN(f"{shown(path)} has more than {MAX_PATH_BYTES:,} bytes in UTF-8.", lfn=path[:200])
    if path.split("/", 2)[1] != vo:
        return PathOutsideVO(f"{shown(path)} is outside your VO {vo!r}; its paths begin with /{vo}/.", lfn=path, vo=vo)
    return None


def checked_path(path: str, vo: str) -> str:
    """The path of a directory or file, without a slash at its end. Raises BadLFN, PathOutsideVO."""
    path = path.rstrip("/") if path != "/" else path
    if error := path_fault(path, vo):
        raise error
    return path


def split_lfn(lfn: str, vo: str) -> tuple[str, str]:
    """The directory and the name of a file. Raises BadLFN, PathOutsideVO."""
    if len(lfn) < MAX_NAME_BYTES and _PLAIN.fullmatch(lfn) and lfn.startswith(f"/{vo}/"):  # Nearly all are.
        directory, _, name = lfn.rpartition("/")
        return directory, name
    if error := path_fault(lfn, vo):
        raise error
    directory, _, name = lfn.rpartition("/")
    if not directory:
        raise BadLFN(f"{shown(lfn)} is the top directory of your VO, not a file.", lfn=lfn)
    return directory, name


def checked_pfn(pfn: str) -> str:
    """A path relative to a storage element's root that cannot leave it. Raises BadPFN."""
    parts = pfn.split("/")
    faults = [f"the part {shown(part)} {fault}" for part in parts if (fault := name_fault(part))]
    if not faults and len(pfn.encode()) > MAX_PATH_BYTES:
        faults = [f"it has more than {MAX_PATH_BYTES:,} bytes"]
    if faults:
        raise BadPFN(f"{shown(pfn)} is not a path relative to a storage element's root: {faults[0]}.", pfn=_safe(pfn))
    return pfn


def ancestors(path: str) -> list[str]:
    """The directories above a path, the VO's root first."""
    parts = path.split("/")
    return ["/".join(parts[: n + 1]) for n in range(1, len(parts) - 1)]


def with_ancestors(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        while path and path not in found:
            found.add(path)
            path = path.rpartition("/")[0]
    return found


def nearest(path: str, known: Iterable[str]) -> str | None:
    """The longest of the known paths that is this path or above it."""
    while path:
        if path in known:
            return path
        path = path.rpartition("/")[0]
    return None


def placed_name(name: str, suffix: str) -> str:
    """The name under which new bytes are stored: unique by its suffix, and no longer than a file system takes."""
    room = MAX_NAME_BYTES - len(suffix.encode())
    return name.encode()[:room].decode(errors="ignore") + suffix


def key_fault(name: str) -> str | None:
    if name in BUILT_IN_FIELDS:
        return "is a field that every file has"
    if name.lower() in {"and", "or", "not", "in", "like", "exists", "missing"}:
        return "is a word of the search language"
    if len(name) > 200 or not _KEY.fullmatch(name):
        return "is not a key; a key is letters, digits and _ . : - inside, at most 200 characters"
    return None


def checked_metadata(text: str, types: Mapping[str, MetadataType]) -> tuple[str | None, str | None]:
    """A JSON object of values as it is stored (None: it is empty), and what is wrong with it."""
    try:
        values = msgspec.json.decode(text, type=dict[str, MetadataValue])
        for key in values:
            if fault := key_fault(key):
                return None, f"the metadata key {shown(key)} {fault}"
        kept = {key: checked_value(key, value, types.get(key)) for key, value in values.items()}
    except msgspec.MsgspecError as error:
        return None, f"its metadata is no JSON object of texts, numbers and booleans: {error}"
    except BadMetadata as error:
        return None, error.message
    return (msgspec.json.encode(kept).decode() if kept else None), None


def checked_value(key: str, value: MetadataValue, kind: MetadataType | None) -> MetadataValue:
    """The value as it is stored under a key of this type; None is an undeclared key. Raises BadMetadata."""
    match kind, value:
        case (MetadataType.INTEGER, int()) if not isinstance(value, bool) and abs(value) <= _BIGGEST:
            return value
        case (MetadataType.FLOAT, int() | float()) if not isinstance(value, bool):
            return float(value)
        case (MetadataType.BOOLEAN, bool()):
            return value
        case (MetadataType.TIMESTAMP, str()):
            if instant := _instant(value):
                return instant
        case (MetadataType.TEXT, str()) if "\0" not in value:
            return value
        case (None, _) if not (isinstance(value, str) and "\0" in value):
            return value
    wanted = kind.value if kind else "text without NUL"
    raise BadMetadata(
        f"The metadata key {key!r} is of type {wanted}; {shown(msgspec.json.encode(value).decode())} is not.",
        key=key, type=wanted,
    )  # fmt: skip


def _instant(text: str) -> str | None:
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=UTC)
        return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return None


def _safe(text: str) -> str:
    """At most 200 characters that JSON can carry."""
    return text[:200].encode(errors="replace").decode()
