"""A VO with two more roles, and short ways to change who may do what."""

from dataclasses import dataclass
from typing import Any

from spinor.access import Caller
from spinor.catalog.access import service as access
from spinor.catalog.access.models import AccessChanged, AccessRequest, AclEntry
from spinor.catalog.access.text import read_entries, written
from spinor.configuration import service as configuration
from spinor.db import Database, fetch_value
from spinor.identity import service as identity

from .workbench import World

GROUPS = """
vos:
  astro:
    groups:
      astro_prod: {properties: [normal_user], members: [alan, grace]}
      astro_guests: {properties: [normal_user], members: [grace]}
users:
  grace: {full_name: Grace Hopper}
"""


@dataclass(frozen=True)
class Roles:
    """Members of the VO in other roles."""

    alan_prod: Caller
    grace: Caller  # A guest.
    grace_prod: Caller


async def add_roles(world: World) -> Roles:
    import msgspec

    async with world.db.transaction() as tx:
        text = await fetch_value(tx, "SELECT document FROM configuration.revision ORDER BY revision DESC LIMIT 1")
        document, more = msgspec.yaml.decode(text), msgspec.yaml.decode(GROUPS)
        document["vos"]["astro"]["groups"] |= more["vos"]["astro"]["groups"]
        document["users"] |= more["users"]
        await configuration.apply(tx, msgspec.yaml.encode(document).decode(), author="tests")
        return Roles(
            alan_prod=await identity.caller_for(tx, "alan", "astro", "astro_prod"),
            grace=await identity.caller_for(tx, "grace", "astro", "astro_guests"),
            grace_prod=await identity.caller_for(tx, "grace", "astro", "astro_prod"),
        )


async def change(db: Database, caller: Caller, *paths: str, recursive: bool = False, **what: Any) -> AccessChanged:
    async with db.transaction() as tx:
        return await access.change_access(tx, caller, AccessRequest(paths=list(paths), recursive=recursive, **what))


def entries(text: str) -> list[AclEntry]:
    return read_entries(text)[0]


async def shown(db: Database, caller: Caller, path: str) -> str:
    """Mode, ACL and default ACL in one line."""
    async with db.transaction() as tx:
        (found,) = await access.show_access(tx, caller, [path])
    text = f"{found.mode:04o} {','.join(written(found.acl))}"
    return text + "".join(f",d:{line}" for line in written(found.default_acl))
