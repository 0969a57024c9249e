"""What a change makes of an access. Pure: names are ids by now.

An ACL is a dict here: `u`, `g`, `o` are owner, owning group and others, `m` the mask, `u17` a user, `g5` a group.
"""

import re
from collections.abc import Iterable, Mapping

import msgspec

from spinor.catalog.errors import BadAccess
from spinor.catalog.models import Access
from spinor.catalog.rules import SETGID, STICKY, read_acl, write_acl
from spinor.search.expression import shown

MAX_ENTRIES = 500
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BASE = ("u", "g", "o")
_OCTAL = re.compile(r"[0-7]{1,5}")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_STEP = re.compile(r"([-+=])([rwxXstugo]*)")


class Edit(msgspec.Struct, frozen=True):
    """A change of one ACL: entry -> permissions. `whole`: these are all."""

    whole: Mapping[str, str] | None
    more: Mapping[str, str]
    drop: frozenset[str]

    def __bool__(self) -> bool:
        return self.whole is not None or bool(self.more or self.drop)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """An AccessChange whose names are known. `groups` are those that the caller may give, None: all of them."""

    owner_id: int | None
    group_id: int | None
    mode: str | int | None
    acl: Edit
    default_acl: Edit
    giveable: frozenset[int] | None


def check_mode(mode: str) -> None:
    """Raises BadAccess."""
    if _OCTAL.fullmatch(mode):
        bits = int(mode, 8)
        if bits > 0o3777:
            raise BadAccess(
                f"The mode {mode} has a setuid bit or more, which mean nothing here; at most 3777.", mode=mode
            )
    elif not all(_CLAUSE.fullmatch(clause) for clause in mode.split(",")):
        raise BadAccess(
            f"{shown(mode)} is not a mode; write it in octal (0755) or as changes (u+w,go-r,a+X).", mode=mode[:200]
        )
    elif "s" in mode and any("u" in who and "s" in steps for who, steps in _clauses(mode)):
        raise BadAccess("The setuid bit (u+s) means nothing here; g+s is for directories.", mode=mode)


def _clauses(mode: str) -> Iterable[tuple[str, str]]:
    for clause in mode.split(","):
        if match := _CLAUSE.fullmatch(clause):
            yield match[1], match[2]


def changed_mode(old: int, mode: str | int, *, directory: bool) -> int:
    """The mode that a checked octal, symbolic or plain one makes of another.

    Octal with up to three digits says nothing of sticky and setgid; with more it says all.
    """
    if isinstance(mode, int):
        return mode
    if _OCTAL.fullmatch(mode):
        kept = old & (STICKY | SETGID) if len(mode) <= 3 else 0
        return int(mode, 8) | kept
    for who, steps in _clauses(mode):
        for operator, letters in _STEP.findall(steps):
            old = _stepped(old, who, operator, letters, directory=directory)
    return old


def _stepped(old: int, who: str, operator: str, letters: str, *, directory: bool) -> int:
    classes = "ugo" if not who or "a" in who else who
    bits = 0
    for name in classes:
        bits |= _letters(old, letters, directory=directory) << _SHIFT[name]
    if "t" in letters and (not who or "a" in who):
        bits |= STICKY
    if "s" in letters and "g" in classes:
        bits |= SETGID
    if operator == "+":
        return old | bits
    if operator == "-":
        return old & ~bits
    covered = sum(7 << _SHIFT[name] for name in set(classes))
    return old & ~covered | bits


def _letters(old: int, letters: str, *, directory: bool) -> int:
    """Three bits: `rwx`, X if somebody may execute already, or what another class has."""
    if letters in _SHIFT:
        return old >> _SHIFT[letters] & 7
    return _permissions(letters, executable=directory or bool(old & 0o111))


def _permissions(text: str, *, executable: bool) -> int:
    if text.isdigit():
        return int(text)
    bits = (4 if "r" in text else 0) | (2 if "w" in text else 0) | (1 if "x" in text else 0)
    return bits | (1 if "X" in text and executable else 0)


def letters_of(bits: int) -> str:
    return "".join(letter if bits & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))


def entries_of(access: Access) -> dict[str, int]:
    """All entries of the ACL, also of one that says no more than the mode."""
    entries = {name: access.mode >> shift & 7 for name, shift in _SHIFT.items()}
    if access.acl:
        entries["m"] = entries["g"]
        entries |= read_acl(access.acl)
    return entries


def changed(access: Access, change: Change, *, directory: bool) -> Access:
    """The access after the change. Default ACLs of files are left out: they have none."""
    mode = access.mode if change.mode is None else changed_mode(access.mode, change.mode, directory=directory)
    new = msgspec.structs.replace(
        access,
        access_id=0,
        owner_id=access.owner_id if change.owner_id is None else change.owner_id,
        group_id=access.group_id if change.group_id is None else change.group_id,
        mode=mode,
    )
    if change.acl:
        new = _with_entries(new, edited(entries_of(new), change.acl, directory=directory))
    if change.default_acl and directory:
        new = msgspec.structs.replace(new, default_acl=_changed_default(new, change.default_acl))
    return new


def _changed_default(access: Access, edit: Edit) -> str:
    before = dict(read_acl(access.default_acl))
    if edit.whole is not None:
        before = {}
    if not before and not (edit.whole or edit.more):
        return ""
    base = {name: bits for name, bits in entries_of(access).items() if name in _BASE}
    return write_acl(edited(base | before, edit, directory=True))


def edited(entries: Mapping[str, int], edit: Edit, *, directory: bool) -> dict[str, int]:
    """The entries after an edit. The mask follows the group entries unless the edit names it. Raises BadAccess."""
    executable = directory or any(bits & 1 for bits in entries.values())
    given = {**(edit.whole or {}), **edit.more}
    gone = edit.drop if edit.whole is None else entries.keys() - set(_BASE)
    after = {name: bits for name, bits in entries.items() if name not in gone}
    after |= {name: _permissions(text, executable=executable) for name, text in given.items()}
    if len(after) > MAX_ENTRIES:
        raise BadAccess(f"An ACL has at most {MAX_ENTRIES} entries; this one would have {len(after):,}. Use a group.")
    return _masked(after, given="m" in given)


def _masked(entries: dict[str, int], *, given: bool) -> dict[str, int]:
    """With the mask that belongs to them: named entries need one, and without them there is none unless it is given."""
    named = [bits for name, bits in entries.items() if len(name) > 1]
    if given or (not named and "m" not in entries):
        return entries
    others = {name: bits for name, bits in entries.items() if name != "m"}
    if not named:
        return others
    mask = entries.get("g", 0)
    for bits in named:
        mask |= bits
    return others | {"m": mask}


def _with_entries(access: Access, entries: Mapping[str, int]) -> Access:
    middle, acl = entries["g"], ""
    if "m" in entries:
        middle = entries["m"]
        acl = write_acl({name: bits for name, bits in entries.items() if name not in ("u", "o", "m")})
    mode = access.mode & ~0o777 | entries["u"] << 6 | middle << 3 | entries["o"]
    return msgspec.structs.replace(access, mode=mode, acl=acl)
