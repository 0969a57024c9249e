"""Between the ids of users and groups and their names."""

from collections.abc import Iterable, Mapping, Sequence

from spinor.access import Caller
from spinor.catalog.access import rules, store
from spinor.catalog.access.models import AccessShown, AclEntry, AclKind, AclName
from spinor.catalog.errors import BadAccess, UnknownGroup, UnknownUser
from spinor.catalog.models import Access, EntryKind
from spinor.catalog.rules import read_acl
from spinor.db import Tx
from spinor.search.expression import shown

_UNNAMED = {AclKind.USER: "u", AclKind.GROUP: "g", AclKind.MASK: "m", AclKind.OTHER: "o"}
_KINDS = {letter: kind for kind, letter in _UNNAMED.items()}
_ORDER = "ugmo"


class Naming:
    """The names of all ids in some accesses."""

    def __init__(self, users: Mapping[int, str], groups: Mapping[int, str]) -> None:
        self.users = users
        self.groups = groups

    @classmethod
    async def of(cls, tx: Tx, caller: Caller, accesses: Iterable[Access]) -> "Naming":
        users: set[int] = set()
        groups: set[int] = set()
        for access in accesses:
            users |= set() if access.owner_id is None else {access.owner_id}
            groups |= set() if access.group_id is None else {access.group_id}
            for who in [*read_acl(access.acl), *read_acl(access.default_acl)]:
                if len(who) > 1:
                    (users if who[0] == "u" else groups).add(int(who[1:]))
        return cls(await store.names_of_users(tx, users), await store.names_of_groups(tx, caller, groups))

    def shown(self, path: str, kind: EntryKind, access: Access) -> AccessShown:
        return AccessShown(
            path=path, kind=kind, mode=access.mode,
            owner=None if access.owner_id is None else self.users[access.owner_id],
            group=None if access.group_id is None else self.groups[access.group_id],
            acl=self._entries(rules.entries_of(access)), default_acl=self._entries(read_acl(access.default_acl)),
        )  # fmt: skip

    def _entries(self, entries: Mapping[str, int]) -> list[AclEntry]:
        """In getfacl's order: the unnamed user, named ones, groups in the same way, mask, other."""
        found = []
        for who, bits in entries.items():
            names = self.users if who[0] == "u" else self.groups
            name = names[int(who[1:])] if len(who) > 1 else ""
            found.append(AclEntry(kind=_KINDS[who[0]], name=name, permissions=rules.letters_of(bits)))
        return sorted(found, key=lambda entry: (_ORDER.index(_UNNAMED[entry.kind]), entry.name))


class Ids:
    """The ids of all names that a change says. Raises UnknownUser, UnknownGroup: none is made up."""

    def __init__(self, users: Mapping[str, int], groups: Mapping[str, int]) -> None:
        self.users = users
        self.groups = groups

    @classmethod
    async def of(cls, tx: Tx, caller: Caller, users: set[str], groups: set[str]) -> "Ids":
        """Of members: for what gives somebody something."""
        known_users = await store.users_of_vo(tx, caller, users) if users else {}
        known_groups = await store.groups_of_vo(tx, caller, groups) if groups else {}
        return cls._checked(caller, users, groups, (known_users, known_groups))

    @classmethod
    async def of_known(cls, tx: Tx, caller: Caller, users: set[str], groups: set[str]) -> "Ids":
        """Also of those who have left: for what takes something away, or only looks."""
        known_users = await store.users_known_to_vo(tx, caller, users) if users else {}
        known_groups = await store.groups_known_to_vo(tx, caller, groups) if groups else {}
        return cls._checked(caller, users, groups, (known_users, known_groups))

    @classmethod
    def _checked(
        cls, caller: Caller, users: set[str], groups: set[str], known: tuple[dict[str, int], dict[str, int]]
    ) -> "Ids":
        for name in sorted(users - known[0].keys()):
            raise UnknownUser(f"There is no user {shown(name)} in your VO {caller.vo!r}.", user=name[:200])
        for name in sorted(groups - known[1].keys()):
            raise UnknownGroup(
                f"There is no group {shown(name)} in your VO {caller.vo!r}; `spinor whoami` shows yours.",
                group=name[:200],
            )
        return cls(*known)

    def who(self, entry: AclEntry | AclName) -> str:
        if not entry.name:
            return _UNNAMED[entry.kind]
        return f"u{self.users[entry.name]}" if entry.kind is AclKind.USER else f"g{self.groups[entry.name]}"

    def permissions(self, entries: Sequence[AclEntry]) -> dict[str, str]:
        found: dict[str, str] = {}
        for entry in entries:
            if self.who(entry) in found:
                raise BadAccess(f"The ACL has two entries for {entry.kind}:{entry.name}.")
            found[self.who(entry)] = entry.permissions
        return found


def names_in(entries: Iterable[AclEntry | AclName]) -> tuple[set[str], set[str]]:
    """The users and the groups. Raises BadAccess for a name where none belongs."""
    users: set[str] = set()
    groups: set[str] = set()
    for entry in entries:
        if entry.name and entry.kind in (AclKind.MASK, AclKind.OTHER):
            raise BadAccess(f"An entry of kind {entry.kind} has no name; {shown(entry.name)} is one.")
        if entry.name:
            (users if entry.kind is AclKind.USER else groups).add(entry.name)
    return users, groups
