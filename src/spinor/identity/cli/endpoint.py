"""The authorization server as the command line asks it: forms, refusals with their exit code, PKCE."""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, TypeVar

import msgspec

from spinor.errors import BadInput, Denied

if TYPE_CHECKING:
    from spinor.client import Client, TokenAnswer

T = TypeVar("T")
CLIENT_ID = "spinor-cli"


def ask_tokens(client: Client, form: dict[str, str]) -> TokenAnswer:
    """The answer of the token endpoint; its refusal as BadInput or Denied, since the exit code should tell more.

    The endpoint knows one status for every refusal (RFC 6749).
    """
    from spinor.client import RemoteError

    try:
        return client.token_request({"client_id": CLIENT_ID, **form})
    except RemoteError as error:
        if error.status == 400:
            refusal = (BadInput if error.code == "role-unclear" else Denied)(error.message)
            refusal.facts = error.facts
            raise refusal from None
        raise


def ask(client: Client, path: str, form: dict[str, str], answer: type[T]) -> T:
    """What another address for forms answers."""
    from urllib.parse import urlencode

    from spinor.client import UnexpectedAnswer

    headers = {"content-type": "application/x-www-form-urlencoded"}
    _, body = client.request("POST", path, urlencode(form).encode(), headers=headers, signed=False)
    try:
        return msgspec.json.decode(body, type=answer)
    except msgspec.MsgspecError as error:
        raise UnexpectedAnswer(f"{client.url}{path} answered something else than expected: {error}.") from None


def new_verifier() -> str:
    return secrets.token_urlsafe(48)


def challenge_of(verifier: str) -> dict[str, str]:
    """The parameters that tell the service which verifier will come (RFC 7636)."""
    digest = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return {"code_challenge": digest, "code_challenge_method": "S256"}
