"""ACL entries as people write them: `u:alan:rwx`, `group::r-x`, `default:mask::rx`."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from spinor.catalog.access.models import AclEntry, AclKind, AclName
from spinor.catalog.errors import BadAccess

T = TypeVar("T")
_KINDS = {word: kind for kind in AclKind for word in (kind.value, kind.value[0])}
_DEFAULT = ("default", "d")


def written(entries: Iterable[AclEntry]) -> list[str]:
    """Lines as getfacl's, with what the mask leaves of an entry where it takes something away."""
    known = list(entries)
    mask = next((entry.permissions for entry in known if entry.kind is AclKind.MASK), "rwx")
    lines = []
    for entry in known:
        line = f"{entry.kind}:{entry.name}:{entry.permissions}"
        if entry.name or entry.kind is AclKind.GROUP:
            left = "".join(letter if letter in mask else "-" for letter in entry.permissions)
            line += "" if left == entry.permissions else f"  #effective:{left}"
        lines.append(line)
    return lines


def read_entries(text: str, *, default: bool = False) -> tuple[list[AclEntry], list[AclEntry]]:
    """Entries separated by commas: those of the ACL itself, and default ones. Raises BadAccess."""
    return _read(text, _entry, default=default)


def read_names(text: str, *, default: bool = False) -> tuple[list[AclName], list[AclName]]:
    """The same without permissions, for entries to drop."""
    return _read(text, _name, default=default)


def _read(text: str, reader: Callable[[list[str], str], T], *, default: bool) -> tuple[list[T], list[T]]:
    own: list[T] = []
    defaults: list[T] = []
    for word in (part.strip() for part in text.split(",")):
        parts = word.split(":")
        is_default = parts[0] in _DEFAULT
        parts = parts[1:] if is_default else parts
        (defaults if default or is_default else own).append(reader(parts, word))
    return own, defaults


def _entry(parts: list[str], word: str) -> AclEntry:
    if len(parts) == 2 and _KINDS.get(parts[0]) in (AclKind.MASK, AclKind.OTHER):
        parts = [parts[0], "", parts[1]]
    if len(parts) != 3 or parts[0] not in _KINDS:
        raise BadAccess(f"{word!r} is no ACL entry; write kind:NAME:permissions, such as u:alan:rwx or mask::r-x.")
    permissions = parts[2]
    if not (permissions in "01234567" and len(permissions) == 1) and (
        set(permissions) - set("rwxX-") or len(permissions) > 4
    ):
        raise BadAccess(f"{permissions!r} in {word!r} are no permissions; write letters of rwxX, or one octal digit.")
    return AclEntry(kind=_KINDS[parts[0]], name=parts[1], permissions=permissions)


def _name(parts: list[str], word: str) -> AclName:
    if (not 1 <= len(parts) <= 2 and not (len(parts) == 3 and not parts[2])) or parts[0] not in _KINDS:
        raise BadAccess(f"{word!r} is no ACL entry to drop; write kind:NAME, such as u:alan or g:astro_prod.")
    return AclName(kind=_KINDS[parts[0]], name=parts[1] if len(parts) > 1 else "")
