"""From a person whom a provider has proven to a user here."""

import logging

from spinor.db import Database, Tx
from spinor.errors import Denied
from spinor.identity.federation import rules, store
from spinor.identity.federation.models import Admission, Event, Happening, Provider, Visitor
from spinor.identity.federation.service import providers
from spinor.identity.keys import KeyRing
from spinor.identity.models import LinkedName, Proven

_log = logging.getLogger("spinor.identity")


class NotAdmitted(Denied):
    """You are not a member here."""

    code = "not-admitted"


async def admit(
    db: Database, keys: KeyRing, provider: Provider, visitor: Visitor, *, address: str = ""
) -> Proven | None:
    """`welcome` in a transaction of its own: what it did to somebody's memberships stays when they are refused."""
    async with db.transaction() as tx:
        proven = await welcome(tx, keys, provider, visitor, address=address)
    refuse_too_little_assured(provider, visitor)
    return proven


async def welcome(tx: Tx, keys: KeyRing, provider: Provider, visitor: Visitor, *, address: str = "") -> Proven | None:
    """The user that a proven person is, with the memberships that they have now; an account is made when a rule lets
    them in. None when they may ask to be let in, NotAdmitted when they may not.
    """
    await store.lock_person(tx, visitor.issuer, visitor.subject)
    owner = await store.find_owner(tx, visitor.issuer, visitor.subject)
    if owner is None:
        refuse_too_little_assured(provider, visitor)
        if provider.registration is Admission.CLOSED or not rules.roles_of(provider, visitor.facts):
            refuse_unknown(provider)
            return None
        user = await make_account(tx, visitor, actor=provider.source, address=address)
        user_id = user.user_id
    elif owner.retired or owner.banned:
        word = "has ended" if owner.retired else "is suspended"
        raise NotAdmitted(f"Your account here {word}; ask the administrators of this service.")
    else:
        user_id = owner.user_id
        await store.note_use(tx, visitor.issuer, visitor.subject)
        await store.update_user(tx, user_id, visitor.full_name, visitor.email)
    await keep(tx, keys, provider, visitor, user_id)
    found = owner or await store.find_owner(tx, visitor.issuer, visitor.subject)
    assert found is not None
    return Proven(user=found.user, signed_in_by=provider.source)


async def keep(tx: Tx, keys: KeyRing, provider: Provider, visitor: Visitor, user_id: int) -> None:
    """Remember what the provider says about a user of ours, and let it take effect."""
    sealed = None
    if visitor.refresh_token:
        sealed = keys.seal.close(visitor.refresh_token.encode(), sealed_about(visitor.issuer, visitor.subject))
    await store.keep_account(tx, visitor, sealed)
    for certificate in visitor.certificates:
        await _link_certificate(tx, provider, certificate, user_id)
    await providers.reckon(tx, provider, [user_id], actor=provider.source)


def sealed_about(issuer: str, subject: str) -> str:
    """What the seal of a provider's refresh token is for."""
    return f"refresh token of {subject} at {issuer}"


def refuse_too_little_assured(provider: Provider, visitor: Visitor) -> None:
    if not rules.is_assured(provider, visitor.facts):
        raise NotAdmitted(
            f"{provider.title} is not sure enough of who you are: {' or '.join(provider.assurance)} is needed here. "
            "Raise it there, for example by signing in through your home organisation, and come back."
        )


def refuse_unknown(provider: Provider) -> None:
    """NotAdmitted for who has no account, and may not ask for one."""
    if provider.registration is not Admission.APPROVAL:
        raise NotAdmitted(
            f"{provider.title} knows you, and this service does not: you are in none of the groups that have access. "
            "Ask the administrators of your VO to add you to its group, and sign in again."
        )


async def make_account(tx: Tx, visitor: Visitor, *, actor: str, address: str = "") -> store.Owner:
    """A new user for a person who has none, and their login."""
    name = rules.free_name(visitor.wanted_name, await store.list_names_like(tx, visitor.wanted_name))
    user_id = await store.insert_user(tx, name, visitor.full_name, visitor.email)
    await store.insert_identity(tx, visitor.issuer, visitor.subject, user_id)
    facts = {"user": name, "issuer": visitor.issuer, "subject": visitor.subject}
    happening = Happening(event=Event.ACCOUNT_MADE, user_id=user_id, actor=actor, address=address, facts=facts)
    await store.insert_happening(tx, happening)
    _log.info("account made", extra={"user": name, "provider": visitor.provider, "actor": actor})
    return store.Owner(user_id=user_id, user=name)


async def _link_certificate(tx: Tx, provider: Provider, certificate: LinkedName, user_id: int) -> None:
    """A certificate that the provider says is this person's. One that is somebody else's here stays theirs."""
    if await store.insert_identity(tx, certificate.issuer, certificate.subject, user_id):
        facts = {"issuer": certificate.issuer, "subject": certificate.subject}
        happening = Happening(event=Event.IDENTITY_LINKED, user_id=user_id, actor=provider.source, facts=facts)
        await store.insert_happening(tx, happening)
        return
    owner = await store.find_owner(tx, certificate.issuer, certificate.subject)
    if owner is not None and owner.user_id != user_id:
        _log.warning("a provider names a certificate that is somebody else's", extra={"provider": provider.name})


async def visitor_of_user(tx: Tx, user: str) -> Visitor | None:
    """A user of ours as the provider described them last at which they signed in last; None when there is none."""
    user_id = await store.find_user_id(tx, user)
    known = [provider.name for provider in await providers.list_providers(tx)]
    accounts = await store.list_accounts(tx, known, [user_id]) if user_id is not None else []
    if not accounts:
        return None
    account = max(accounts, key=lambda each: each.checked_at)
    return Visitor(
        provider=account.provider,
        issuer=account.issuer,
        subject=account.subject,
        sub=account.sub,
        full_name=account.full_name,
        email=account.email,
        wanted_name=user,
        facts=account.facts,
    )
