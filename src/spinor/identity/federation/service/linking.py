"""The logins and certificates of one person."""

from spinor.db import Tx
from spinor.errors import Conflict, NotFound
from spinor.identity.federation import store
from spinor.identity.federation.models import Event, Happening, Identity, Provider, Visitor
from spinor.identity.federation.service import people, providers
from spinor.identity.keys import KeyRing


class SomebodyElses(Conflict):
    """This login belongs to another account here. Whoever has two accounts asks the administrators of this service."""

    code = "somebody-elses"


class LastIdentity(Conflict):
    """This is your only way to sign in; link another one first."""

    code = "last-identity"


class UnknownIdentity(NotFound):
    """You have no such login; see `spinor identity list`."""

    code = "unknown-identity"


class ConfiguredIdentity(Conflict):
    """The operations data say that this login is yours; ask the administrators of this service to take it out there."""

    code = "configured-identity"


async def list_identities(tx: Tx, user_id: int) -> list[Identity]:
    """Those of a user, oldest first."""
    return await store.list_identities(tx, user_id)


async def identities_of(tx: Tx, user: str) -> list[Identity]:
    """Those of a user by name."""
    user_id = await store.find_user_id(tx, user)
    return [] if user_id is None else await store.list_identities(tx, user_id)


async def link(tx: Tx, keys: KeyRing, provider: Provider, visitor: Visitor, user: str, *, address: str = "") -> None:
    """Add the login of a person whom the provider has proven just now to the user who sits at the same browser."""
    people.refuse_too_little_assured(provider, visitor)
    await store.lock_person(tx, visitor.issuer, visitor.subject)
    user_id = await store.find_user_id(tx, user)
    owner = await store.find_owner(tx, visitor.issuer, visitor.subject)
    if user_id is None or (owner is not None and owner.user_id != user_id):
        raise SomebodyElses
    if owner is None:
        await store.insert_identity(tx, visitor.issuer, visitor.subject, user_id)
        facts = {"issuer": visitor.issuer, "subject": visitor.subject}
        happening = Happening(event=Event.IDENTITY_LINKED, user_id=user_id, actor=user, address=address, facts=facts)
        await store.insert_happening(tx, happening)
    await people.keep(tx, keys, provider, visitor, user_id)


async def unlink(tx: Tx, user: str, user_id: int, issuer: str, subject: str) -> None:
    """Take a login away from a user, and the memberships that only it gave. LastIdentity when no other one is left."""
    await store.lock_user(tx, user_id)
    own = await store.list_identities(tx, user_id)
    given_up = [each for each in own if (each.issuer, each.subject) == (issuer, subject)]
    if not given_up:
        raise UnknownIdentity
    if given_up[0].origin == "configuration":
        raise ConfiguredIdentity
    if not [each for each in own if each not in given_up and _opens_the_door(each)]:
        raise LastIdentity
    await store.delete_identity(tx, user_id, issuer, subject)
    facts = {"issuer": issuer, "subject": subject}
    happening = Happening(event=Event.IDENTITY_UNLINKED, user_id=user_id, actor=user, facts=facts)
    await store.insert_happening(tx, happening)
    for provider in await providers.list_providers(tx):
        if provider.issuer == issuer:
            await providers.reckon(tx, provider, [user_id], actor=user)


def _opens_the_door(identity: Identity) -> bool:
    """Whether one can sign in by it: the provider is still offered, or it is a certificate."""
    return identity.provider is not None or identity.issuer.startswith("/")
