"""The rows of codes and of programs that wait."""

import hashlib
from uuid import UUID

import msgspec

from spinor.db import Queries, Tx, execute, fetch_one, fetch_value
from spinor.identity.oauth.flows.models import (
    CODE_LIFETIME_S,
    DEVICE_LIFETIME_S,
    POLL_INTERVAL_S,
    Allowed,
    Code,
    DeviceRequest,
    FoundCode,
    Guesses,
    PolledDevice,
    WaitingCount,
    WaitingDevice,
)

Q = Queries("spinor.identity.oauth.flows")
GUESS_WINDOW_S = 600


async def insert_code(tx: Tx, code: str, given: Code) -> None:
    parameters = {**msgspec.structs.asdict(given.asked), **msgspec.structs.asdict(given.allowed)}
    about = {"code_hash": _hash(code), "browser_hash": given.browser_hash, "lifetime_s": CODE_LIFETIME_S}
    await execute(tx, Q.insert_code, {**parameters, **about})


async def lock_code(tx: Tx, code: str) -> FoundCode | None:
    """The code's row, which nobody else can use until this transaction ends."""
    return await fetch_one(tx, FoundCode, Q.lock_code, {"code_hash": _hash(code)})


async def redeem_code(tx: Tx, code: str, session_id: UUID) -> None:
    await execute(tx, Q.redeem_code, {"code_hash": _hash(code), "session_id": session_id})


async def count_waiting_devices(tx: Tx, address: str) -> WaitingCount:
    found = await fetch_one(tx, WaitingCount, Q.count_waiting_devices, {"address": address})
    assert found
    return found


async def insert_device(tx: Tx, device_code: str, user_code: str, asked: DeviceRequest) -> bool:
    """False when another program has this user code."""
    codes = {"device_hash": _hash(device_code), "user_code_hash": _hash(user_code)}
    times = {"lifetime_s": DEVICE_LIFETIME_S, "interval_s": POLL_INTERVAL_S}
    return await execute(tx, Q.insert_device, {**msgspec.structs.asdict(asked), **codes, **times}) > 0


async def lock_guesses(tx: Tx) -> None:
    await execute(tx, Q.lock_guesses)


async def count_guesses(tx: Tx, user: str, address: str) -> Guesses:
    parameters = {"user": user, "address": address, "window_s": GUESS_WINDOW_S}
    found = await fetch_one(tx, Guesses, Q.count_guesses, parameters)
    assert found
    return found


async def insert_guess(tx: Tx, user: str, address: str) -> None:
    await execute(tx, Q.insert_guess, {"user": user, "address": address})


async def find_waiting_device(tx: Tx, user_code: str) -> WaitingDevice | None:
    """The program that waits with this code; nobody else decides on it until this transaction ends."""
    return await fetch_one(tx, WaitingDevice, Q.find_waiting_device, {"user_code_hash": _hash(user_code)})


async def allow_device(tx: Tx, user_code: str, allowed: Allowed) -> None:
    await execute(tx, Q.allow_device, {**msgspec.structs.asdict(allowed), "user_code_hash": _hash(user_code)})


async def deny_device(tx: Tx, user_code: str) -> None:
    await execute(tx, Q.deny_device, {"user_code_hash": _hash(user_code)})


async def lock_device(tx: Tx, device_code: str) -> PolledDevice | None:
    """The row of the program that polls, which nobody else can use until this transaction ends."""
    return await fetch_one(tx, PolledDevice, Q.lock_device, {"device_hash": _hash(device_code)})


async def mark_polled(tx: Tx, device_code: str, *, too_soon: bool) -> None:
    await execute(tx, Q.mark_polled, {"device_hash": _hash(device_code), "too_soon": too_soon})


async def redeem_device(tx: Tx, device_code: str, session_id: UUID) -> None:
    await execute(tx, Q.redeem_device, {"device_hash": _hash(device_code), "session_id": session_id})


async def delete_expired(tx: Tx) -> int:
    deleted: int = await fetch_value(tx, Q.delete_expired)
    return deleted


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
