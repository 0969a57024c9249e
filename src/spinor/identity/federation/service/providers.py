"""Which providers there are, and the memberships that follow from what they have said."""

from collections.abc import Sequence

from spinor.db import Tx
from spinor.errors import Conflict, NotFound
from spinor.identity.federation import rules, store
from spinor.identity.federation.models import Event, GivenMembership, Happening, Provider
from spinor.identity.models import WantedUser
from spinor.identity.tokens import CHANGED
from spinor.signals import notify


class UnknownProvider(NotFound):
    """There is no such login here; choose one of those on the login page."""

    code = "unknown-provider"


class NamesTaken(Conflict):
    """A name in the operations data is that of somebody who has made their account themselves."""

    code = "names-taken"


async def list_providers(tx: Tx) -> list[Provider]:
    return await store.list_providers(tx)


async def provider_named(tx: Tx, name: str) -> Provider:
    """The provider of this name; UnknownProvider when there is none."""
    for provider in await store.list_providers(tx):
        if provider.name == name:
            return provider
    raise UnknownProvider


async def sync_providers(tx: Tx, providers: Sequence[Provider]) -> None:
    """Bring the providers in line with the operations data, and at once the memberships by their rules, old and new."""
    await store.replace_providers(tx, providers)
    known = {provider.source: provider for provider in providers}
    for source in sorted(known.keys() | set(await store.list_sources(tx))):
        if source in known:
            await reckon(tx, known[source], None, actor="configuration")
        else:
            await note_changes(tx, "configuration", [], await store.take_memberships(tx, source, [], None))


async def refuse_taken_names(tx: Tx, users: Sequence[WantedUser]) -> None:
    """NamesTaken when the operations data would give one person's account to another who only has the same name."""
    names = await store.list_registered_names(tx, users)
    if names:
        raise NamesTaken(
            f"{', '.join(names)}: there are registered people of this name. Who means them says so by their `subject` "
            "or one of their `identities`; who does not chooses another name.",
            names=names,
        )


async def reckon(tx: Tx, provider: Provider, user_ids: Sequence[int] | None, *, actor: str) -> None:
    """Give and take the memberships that the provider's rules mean for these users (None: for everybody)."""
    accounts = await store.list_accounts(tx, [provider.name], user_ids)
    given = [
        GivenMembership(user_id=account.user_id, vo=vo, group=group)
        for account in accounts
        for vo, group in rules.roles_of(provider, account.facts)
    ]
    taken = await store.take_memberships(tx, provider.source, given, user_ids)
    await note_changes(tx, actor, await store.give_memberships(tx, provider.source, given), taken)


async def note_changes(tx: Tx, actor: str, given: list[GivenMembership], taken: list[GivenMembership]) -> None:
    """A line in the log for each person and VO in which their memberships have changed."""
    for user_id, vo_id in sorted({(each.user_id, each.vo_id) for each in (*given, *taken)}):
        facts = {
            word: [each.group for each in changes if (each.user_id, each.vo_id) == (user_id, vo_id)]
            for word, changes in (("given", given), ("taken", taken))
        }
        happening = Happening(event=Event.MEMBERSHIPS_CHANGED, user_id=user_id, vo_id=vo_id, actor=actor, facts=facts)
        await store.insert_happening(tx, happening)
    if taken:
        await notify(tx, CHANGED)
