"""What is kept of a sign-in between the browser and the program."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

CODE_LIFETIME_S = 60
DEVICE_LIFETIME_S = 600
POLL_INTERVAL_S = 5


class AuthorizationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a program asks of a browser (RFC 6749 section 4.1.1), after everything in it was found good."""

    client_id: str
    redirect_uri: str
    state: str
    code_challenge: str
    scope: str = ""
    nonce: str = ""
    vo: str = ""
    group: str = ""
    prompt: str = ""


class DeviceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a program without a browser asks (RFC 8628 section 3.1), and from where."""

    client_id: str
    challenge: str
    scope: str
    wanted_vo: str
    wanted_group: str
    address: str
    user_agent: str


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """Who let a program in, and as what."""

    user_id: int
    vo_id: int
    group_id: int
    signed_in_by: str
    signed_in_at: datetime


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """A code to be kept: for which request, given by whom, in which browser."""

    asked: AuthorizationRequest
    allowed: Allowed
    browser_hash: bytes


class FoundCode(Allowed, frozen=True, kw_only=True):
    client_id: str
    redirect_uri: str
    challenge: str
    scope: str
    nonce: str
    session_id: UUID | None
    expired: bool
    browser_open: bool  # Whether its person is still signed in where the code was given.

    @property
    def allowed(self) -> Allowed:
        return self


class DeviceState(StrEnum):
    WAITING = "waiting"
    ALLOWED = "allowed"
    DENIED = "denied"
    REDEEMED = "redeemed"


class WaitingDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A program that waits for a person, as that person sees it."""

    client_id: str
    scope: str
    wanted_vo: str
    wanted_group: str
    address: str
    user_agent: str
    asked_at: datetime


class PolledDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A program that asks whether its person has decided."""

    client_id: str
    challenge: str
    scope: str
    state: DeviceState
    expired: bool
    too_soon: bool
    user_id: int | None
    vo_id: int | None
    group_id: int | None
    signed_in_by: str | None
    signed_in_at: datetime | None
    session_id: UUID | None

    @property
    def allowed(self) -> Allowed:
        """Who has allowed it; only of one that was."""
        return msgspec.convert(self, Allowed, from_attributes=True)


class Guesses(msgspec.Struct, frozen=True, kw_only=True):
    """Wrong user codes of the last ten minutes."""

    by_person: int
    by_address: int
    by_all: int


class WaitingCount(msgspec.Struct, frozen=True, kw_only=True):
    from_address: int
    from_all: int
