"""Registered clients and what a VO lets people take to its storages, as the operations data want them."""

from enum import StrEnum
from typing import Any

import msgspec

CODE = "authorization_code"
REFRESH = "refresh_token"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
CREDENTIALS = "client_credentials"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"
RESERVED_PREFIX = "spinor-"  # Of the clients that come with Spinor.

# As operations data write them; the others are for Spinor's own clients.
GRANT_NAMES = {
    "authorization_code": CODE,
    "refresh_token": REFRESH,
    "device_code": DEVICE,
    "client_credentials": CREDENTIALS,
    "token_exchange": EXCHANGE,
}


class ClientKind(StrEnum):
    PUBLIC = "public"  # Runs at its person's place and can keep no secret.
    CONFIDENTIAL = "confidential"  # A service with a secret or a key of its own, in which people sign in.
    SERVICE = "service"  # Acts by itself, as a robot user.


class ActsAs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The robot user whose role a service has."""

    user: str
    vo: str
    group: str


class RegisteredClient(msgspec.Struct, frozen=True, kw_only=True):
    """A client of the operations data. Its secret is a file on the service's machine, and only the name is here."""

    client_id: str
    name: str
    kind: ClientKind
    grants: list[str]
    redirect_uris: list[str] = []
    secret_file: str = ""
    jwks: list[dict[str, Any]] = []  # Public keys.
    acts_as: ActsAs | None = None
    scopes: list[str] = []
    exchange_from: list[str] = []
    introspect: bool = False


class CapabilityRule(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever is in one of the groups, or whose group has one of the properties, may take these scopes along.

    `{user}` in a path is the name of the user.
    """

    scopes: list[str]
    groups: list[str] = []
    properties: list[str] = []


class VOCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """Which tokens for storages and computing elements the members of a VO may have."""

    vo: str
    audiences: list[str]
    rules: list[CapabilityRule]
