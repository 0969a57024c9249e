"""Whether somebody who signed in at a provider is still who they were there."""

import hashlib
import logging
from datetime import timedelta

from spinor.db import Database, Tx
from spinor.http import State
from spinor.identity.federation import signing_in, store
from spinor.identity.federation.jwts import SignInRefused
from spinor.identity.federation.models import Account, Facts, Provider, Visitor
from spinor.identity.federation.provider import ProviderRefuses, ProviderUnavailable, Upstreams
from spinor.identity.federation.service import people, providers
from spinor.identity.keys import KeyRing
from spinor.identity.service import GrantRefused

_log = logging.getLogger("spinor.identity")
_AT_ONCE = 200
_BY_PROVIDER, _BY_EXCHANGE = "provider:", "exchange:"


async def recheck(db: Database, state: State, refresh_token: str) -> None:
    """Before one of our refresh tokens is used: ask the provider at which its session began about the person again,
    when the last answer is older than `recheck`. GrantRefused when they have to sign in again.

    Calls the provider, so not to be called in a transaction. While it is silent, its last answer holds as long again.
    """
    async with db.transaction() as tx:
        way = await store.find_way_signed_in(tx, hashlib.sha256(refresh_token.encode()).digest())
        if way is None or not way.signed_in_by.startswith((_BY_PROVIDER, _BY_EXCHANGE)):
            return
        provider = await _provider_of(tx, way.signed_in_by)
        accounts = await store.list_accounts(tx, [provider.name], [way.user_id])
        if not accounts:
            raise GrantRefused("The login by which this session began is no longer yours; run `spinor login`.")
        account = max(accounts, key=lambda each: each.checked_at)
        age_s = state[Upstreams].clock() - account.checked_at.timestamp()
        if age_s < provider.recheck_s:
            return
        if account.refresh_sealed is None:
            raise GrantRefused(
                f"{provider.title} was last asked about you more than {timedelta(seconds=provider.recheck_s)} ago; run "
                "`spinor login`."
            )
        if not await store.begin_asking(tx, account):
            return
    try:
        await _ask(db, state, provider, account)
    except ProviderUnavailable:
        async with db.transaction() as tx:
            await store.end_asking(tx, account)
        if age_s >= 2 * provider.recheck_s:
            raise


async def recheck_everybody(db: Database, state: State) -> int:
    """Ask the providers about those who were checked longer ago than `recheck` and have not come back, where they gave
    us a refresh token; and end the memberships that nobody has confirmed for `lapse`. How many were asked about."""
    asked = 0
    async with db.transaction() as tx:
        known = await providers.list_providers(tx)
    for provider in known:
        async with db.transaction() as tx:
            lapsed = await store.lapse_accounts(tx, provider.name, provider.lapse_s)
            if lapsed:
                await providers.reckon(tx, provider, sorted(set(lapsed)), actor=provider.source)
            old = await store.list_old_accounts(tx, provider.name, provider.recheck_s, _AT_ONCE)
        for account in old:
            async with db.transaction() as tx:
                if not await store.begin_asking(tx, account):
                    continue
            try:
                await _ask(db, state, provider, account)
            except GrantRefused as error:
                _log.info("a provider knows somebody no longer", extra={"user": account.user, "reason": error.message})
            except ProviderUnavailable as error:
                _log.warning(error.message)
                async with db.transaction() as tx:
                    await store.end_asking(tx, account)
                break
            asked += 1
    return asked


async def _provider_of(tx: Tx, signed_in_by: str) -> Provider:
    """The provider of a session; GrantRefused when it is no longer one of ours."""
    for provider in await providers.list_providers(tx):
        if signed_in_by in (provider.source, _BY_EXCHANGE + provider.issuer):
            return provider
    raise GrantRefused("The login by which this session began is no longer offered here; run `spinor login`.")


async def _ask(db: Database, state: State, provider: Provider, account: Account) -> None:
    keys, upstream = state[KeyRing], state[Upstreams].of(provider)
    about = people.sealed_about(account.issuer, account.subject)
    token = keys.seal.open(account.refresh_sealed or b"", about).decode()
    try:
        visitor = await signing_in.ask_again(upstream, account, token)
    except (ProviderRefuses, SignInRefused) as error:
        await _part(db, provider, account)
        raise GrantRefused(f"{error.message} Run `spinor login`.") from None
    async with db.transaction() as tx:
        await people.keep(tx, keys, provider, visitor, account.user_id)
    try:
        people.refuse_too_little_assured(provider, visitor)
    except people.NotAdmitted as error:
        raise GrantRefused(error.message) from None


async def _part(db: Database, provider: Provider, account: Account) -> None:
    """The provider knows the person no longer: what it gave them ends, until it proves them again."""
    nothing = Visitor(
        provider=provider.name, issuer=account.issuer, subject=account.subject, sub=account.sub, facts=Facts()
    )
    async with db.transaction() as tx:
        await store.keep_account(tx, nothing, None)
        await store.forget_refresh_token(tx, account)
        await providers.reckon(tx, provider, [account.user_id], actor=provider.source)
