"""A device code for tokens, once its person has decided (RFC 8628 section 3.4)."""

from uuid import uuid4

from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.identity import service
from spinor.identity.models import Tokens
from spinor.identity.oauth.endpoint import Asking
from spinor.identity.oauth.flows import store
from spinor.identity.oauth.flows.models import DeviceState, PolledDevice
from spinor.identity.oauth.flows.redeem import tokens_of
from spinor.identity.oauth.flows.requests import check_verifier


class DeviceRefused(service.GrantRefused):
    """This device code is not known here, or was used before; start again with `spinor login`."""

    code = "device-refused"


class AuthorizationPending(service.GrantRefused):
    """Nobody has decided yet; ask again after the interval."""

    code = "authorization-pending"
    oauth_error = "authorization_pending"


class SlowDown(AuthorizationPending):
    """Nobody has decided yet, and this was asked too soon; wait 5 seconds longer from now on."""

    code = "slow-down"
    oauth_error = "slow_down"


class AccessDenied(service.GrantRefused):
    """The sign-in was turned down in the browser."""

    code = "access-denied"
    oauth_error = "access_denied"


class DeviceExpired(service.GrantRefused):
    """Nobody has decided within ten minutes; start again with `spinor login`."""

    code = "device-expired"
    oauth_error = "expired_token"


async def give_tokens(asking: Asking) -> Tokens:
    """Tokens for a device code, once; until then the error that says how it stands."""
    async with asking.db.transaction() as tx:
        tokens = await _poll(tx, asking, asking.needed("device_code"))
    if isinstance(tokens, SpinorError):
        raise tokens
    return tokens


async def _poll(tx: Tx, asking: Asking, device_code: str) -> Tokens | SpinorError:
    """An error that is given, and not raised, stands for a change that the caller has to commit."""
    found = await store.lock_device(tx, device_code)
    if found is None or found.client_id != asking.client.client_id:
        raise DeviceRefused
    if found.state is DeviceState.REDEEMED:
        assert found.session_id
        await service.end_session(tx, found.session_id, "reuse")
        return DeviceRefused(
            "This device code was used before, so somebody else may have it; what it was exchanged for has ended. "
            "Start again with `spinor login`."
        )
    if found.expired:
        raise DeviceExpired
    if found.state is DeviceState.DENIED:
        raise AccessDenied
    if found.state is DeviceState.WAITING:
        await store.mark_polled(tx, device_code, too_soon=found.too_soon)
        return SlowDown() if found.too_soon else AuthorizationPending()
    return await _redeem(tx, asking, device_code, found)


async def _redeem(tx: Tx, asking: Asking, device_code: str, found: PolledDevice) -> Tokens:
    check_verifier(found.challenge, asking.form.get("code_verifier", ""))
    session_id = uuid4()
    await store.redeem_device(tx, device_code, session_id)
    return await tokens_of(tx, asking, found.allowed, found.scope, session_id)
