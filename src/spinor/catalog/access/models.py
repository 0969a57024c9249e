"""Access as it travels: with names, where the catalog keeps ids."""

from enum import StrEnum
from typing import Annotated

import msgspec

from spinor.catalog.models import EntryKind

Bits = Annotated[int, msgspec.Meta(ge=0, le=0o7777)]


class AclKind(StrEnum):
    USER = "user"  # Without a name: the owner.
    GROUP = "group"  # Without a name: the owning group.
    MASK = "mask"  # The most that named users and all groups get.
    OTHER = "other"


class AclName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom an entry of an ACL is for."""

    kind: AclKind
    name: str = ""


class AclEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of an ACL. `permissions` are letters, `r-x` or `rx`, or one octal digit; X is x where it makes sense:
    on directories, and on what somebody may execute already."""

    kind: AclKind
    name: str = ""
    permissions: Annotated[str, msgspec.Meta(pattern="^(?:[rwxX-]{0,4}|[0-7])$")]


class AccessChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to change; all that is left out stays. Named users and groups are those of the VO.

    `mode` is octal ("0755"), symbolic ("u+w,go-r,a+X") or a number (493). `acl` and `default_acl` are the whole list,
    where an empty one removes all but owner, group and others; the others add or replace single entries, or drop them.
    """

    owner: str | None = None
    group: str | None = None
    mode: Bits | str | None = None
    acl: list[AclEntry] | None = None
    acl_set: list[AclEntry] = []
    acl_drop: list[AclName] = []
    default_acl: list[AclEntry] | None = None
    default_acl_set: list[AclEntry] = []
    default_acl_drop: list[AclName] = []


class AccessRequest(AccessChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same change for each of the paths, and with `recursive` for all that is below them."""

    paths: list[str]
    recursive: bool = False


class AccessChanged(msgspec.Struct, frozen=True, kw_only=True):
    """How many files and directories have another access now; those that had it already do not count."""

    files: int
    directories: int


class AccessShown(msgspec.Struct, frozen=True, kw_only=True):
    """Who may do what with a file or directory. No owner: it belongs to the VO; no group: every group of the VO.

    `acl` names all entries, as getfacl does, also when they say no more than the mode; where there is a mask, the
    mode's group bits are the mask.
    """

    path: str
    kind: EntryKind
    owner: str | None
    group: str | None
    mode: int
    acl: list[AclEntry]
    default_acl: list[AclEntry]
