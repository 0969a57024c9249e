"""People who ask to be let into a VO, and its administrators who decide."""

import logging
from collections.abc import Sequence

import msgspec

from spinor.access import Caller, Scope, scopes_of
from spinor.db import Tx
from spinor.errors import BadInput, Conflict, Denied, NotFound, SpinorError
from spinor.identity.federation import store
from spinor.identity.federation.models import (
    Event,
    GivenMembership,
    Happening,
    HappeningRow,
    Provider,
    Registration,
    RegistrationState,
    Visitor,
)
from spinor.identity.federation.service import people, providers

_log = logging.getLogger("spinor.identity")
LONGEST_MESSAGE = 2000
_MOST_OF_PERSON = 10
_MOST_OF_ADDRESS = 50
# What only those may give who have it: it reaches beyond the VO, or makes new administrators.
_NOT_TO_GIVE = frozenset({Scope.CONFIG_READ, Scope.CONFIG_WRITE, Scope.IDENTITY_MANAGE, Scope.MEMBERS_MANAGE})
APPROVAL = "approval"


class TooManyRegistrations(SpinorError):
    """There were many registrations from here in a short time; try again tomorrow."""

    status, code = 429, "too-many-registrations"


class UnknownRegistration(NotFound):
    """There is no such registration waiting in your VO; see `spinor registration list`."""

    code = "unknown-registration"


class NoSuchChoice(BadInput):
    """That VO cannot be asked for; choose one of the list."""

    code = "no-such-choice"


class NoGroup(Conflict):
    """The VO has no such group; name one with --group."""

    code = "no-group"


class GroupTooPowerful(Denied):
    """That group may do what you may not, so its members are named in the operations data."""

    code = "group-too-powerful"


async def choices(tx: Tx, provider: Provider) -> list[str]:
    """The VOs that people of this provider may ask for."""
    return [vo for vo in await store.list_vos(tx) if not provider.registration_vos or vo in provider.registration_vos]


async def ask_to_join(
    tx: Tx, provider: Provider, visitor: Visitor, vo: str, message: str, *, address: str = ""
) -> None:
    """Note that a proven person wants to be let into a VO. A second time before an answer changes the message."""
    asked = await store.count_registrations(tx, visitor, address)
    if asked.of_person >= _MOST_OF_PERSON or asked.of_address >= _MOST_OF_ADDRESS:
        raise TooManyRegistrations
    if len(message) > LONGEST_MESSAGE:
        raise BadInput(f"The message has more than {LONGEST_MESSAGE} characters.")
    if vo not in await choices(tx, provider):
        raise NoSuchChoice
    await store.lock_person(tx, visitor.issuer, visitor.subject)
    kept = msgspec.structs.replace(visitor, refresh_token="")
    made = await store.insert_registration(tx, kept, vo, message, address)
    if made is None:
        raise NoSuchChoice
    number, vo_id = made
    facts = {"registration": number, "issuer": visitor.issuer, "subject": visitor.subject}
    happening = Happening(
        event=Event.REGISTRATION_ASKED, vo_id=vo_id, actor=provider.source, address=address, facts=facts
    )
    await store.insert_happening(tx, happening)
    _log.info("registration asked for", extra={"vo": vo, "provider": provider.name, "registration": number})


async def own_registrations(tx: Tx, visitor: Visitor) -> list[Registration]:
    """What a person has asked for, newest first."""
    return await store.list_own_registrations(tx, visitor)


async def list_registrations(
    tx: Tx,
    caller: Caller,
    *,
    state: RegistrationState | None = None,
    ids: Sequence[int] | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Registration]:
    """Those of the caller's VO, newest first; an operator sees those of every VO."""
    return await store.list_registrations(tx, _reach(caller), state=state, ids=ids, before=before, limit=limit)


async def approve(tx: Tx, caller: Caller, ids: Sequence[int], group: str = "") -> list[Registration]:
    """Let these people in, all or none: an account for who has none, and the membership. UnknownRegistration when one
    is not waiting in the caller's VO."""
    known = {provider.name: provider for provider in await providers.list_providers(tx)}
    for waiting in await _waiting(tx, caller, ids):
        visitor, chosen = waiting.visitor, await _group(tx, caller, waiting.vo_id, group)
        await store.lock_person(tx, visitor.issuer, visitor.subject)
        owner = await store.find_owner(tx, visitor.issuer, visitor.subject)
        if owner is not None and owner.retired:
            raise Conflict(f"The account {owner.user!r} of registration {waiting.registration_id} has ended.")
        if owner is None:
            owner = await people.make_account(tx, visitor, actor=caller.user)
            await store.keep_account(tx, visitor, None)
        given = [GivenMembership(user_id=owner.user_id, vo=waiting.vo, group=chosen.name)]
        await store.give_memberships(tx, APPROVAL, given)
        provider = known.get(visitor.provider)
        if provider is not None:
            await providers.reckon(tx, provider, [owner.user_id], actor=provider.source)
        await store.decide_registration(
            tx,
            waiting.registration_id,
            RegistrationState.APPROVED,
            decided_by=caller.user,
            given=(owner.user_id, chosen.group_id),
        )
        facts = {"registration": waiting.registration_id, "group": chosen.name}
        await _note(tx, Event.REGISTRATION_APPROVED, caller, waiting, owner.user_id, facts)
    return await list_registrations(tx, caller, ids=ids, limit=len(ids))


async def refuse(tx: Tx, caller: Caller, ids: Sequence[int], reason: str = "") -> list[Registration]:
    """Do not let these people in, all or none."""
    for waiting in await _waiting(tx, caller, ids):
        await store.decide_registration(
            tx, waiting.registration_id, RegistrationState.REFUSED, decided_by=caller.user, reason=reason
        )
        facts = {"registration": waiting.registration_id, "reason": reason}
        await _note(tx, Event.REGISTRATION_REFUSED, caller, waiting, None, facts)
    return await list_registrations(tx, caller, ids=ids, limit=len(ids))


async def list_happenings(
    tx: Tx, caller: Caller, *, user: str | None = None, before: int | None = None, limit: int = 100
) -> list[HappeningRow]:
    """What happened to people in the caller's VO, newest first; an operator sees what happened anywhere."""
    return await store.list_happenings(tx, _reach(caller), user=user, before=before, limit=limit)


async def delete_old_registrations(tx: Tx) -> int:
    """Delete what was refused more than half a year ago; how many that were."""
    return await store.delete_old_registrations(tx)


def _reach(caller: Caller) -> int | None:
    """The VO whose people the caller decides about; None: those of every VO."""
    return None if caller.may(Scope.IDENTITY_MANAGE) else caller.vo_id


async def _waiting(tx: Tx, caller: Caller, ids: Sequence[int]) -> list[store.Waiting]:
    found = await store.lock_registrations(tx, _reach(caller), ids)
    missing = sorted(set(ids) - {each.registration_id for each in found})
    if missing:
        numbers = ", ".join(map(str, missing[:20]))
        raise UnknownRegistration(f"{numbers}: no such registration is waiting in your VO.", ids=missing)
    return found


async def _group(tx: Tx, caller: Caller, vo_id: int, name: str) -> store.Group:
    """The group of this name, or the VO's only one for everyday work, when the caller may put people there."""
    groups = await store.list_groups(tx, vo_id)
    fitting = [group for group in groups if (group.name == name if name else "normal_user" in group.properties)]
    if not fitting:
        raise NoGroup(f"The VO has no group {name!r}; its groups are: {_names(groups)}.")
    if len(fitting) > 1:
        raise NoGroup(f"The VO has several groups for everyday work; name one of {_names(fitting)} with --group.")
    beyond = sorted(scope for scope in scopes_of(fitting[0].properties) & _NOT_TO_GIVE if not caller.may(scope))
    if beyond:
        raise GroupTooPowerful(
            f"Group {fitting[0].name!r} gives {' '.join(beyond)}, which you do not have; its members are named in the "
            "operations data."
        )
    return fitting[0]


def _names(groups: Sequence[store.Group]) -> str:
    return ", ".join(group.name for group in groups)


async def _note(
    tx: Tx, event: Event, caller: Caller, waiting: store.Waiting, user_id: int | None, facts: dict[str, object]
) -> None:
    happening = Happening(event=event, user_id=user_id, vo_id=waiting.vo_id, actor=caller.user, facts=facts)
    await store.insert_happening(tx, happening)
    _log.info(event.value, extra={"vo": waiting.vo, "registration": waiting.registration_id, "actor": caller.user})
