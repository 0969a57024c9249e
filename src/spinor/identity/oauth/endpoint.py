"""Forms in, RFC 6749 answers out: what the token endpoint and its neighbours share."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from spinor.db import Database
from spinor.errors import BadInput, BodyTooLarge, SpinorError
from spinor.http import State, read_body
from spinor.identity.keys import KeyRing
from spinor.identity.models import Origin, Wish
from spinor.identity.oauth.clients import OAuthClient
from spinor.settings import Settings

_LONGEST_FORM_BYTES = 64 * 1024
_FORM_TYPE = "application/x-www-form-urlencoded"


class BadForm(SpinorError):
    """The form is not what this address expects (RFC 6749 section 5.2)."""

    status, code = 400, "bad-form"
    oauth_error = "invalid_request"


class UnsupportedGrant(BadForm):
    """This grant type is not offered here."""

    code = "unsupported-grant"
    oauth_error = "unsupported_grant_type"


@dataclass(frozen=True, kw_only=True)
class Asking:
    """One request at the token endpoint: the form, the client that has sent it, and the service's parts."""

    form: dict[str, str]
    client: OAuthClient
    origin: Origin
    request: Request
    db: Database
    state: State

    @property
    def keys(self) -> KeyRing:
        return self.state[KeyRing]

    @property
    def issuer(self) -> str:
        return self.state[Settings].url

    @property
    def wish(self) -> Wish:
        """The role and the scopes that the form asks for."""
        return Wish(**{name: self.form.get(name, "") for name in ("vo", "group", "scope")})

    def needed(self, name: str) -> str:
        return needed(self.form, name)


async def read_form(request: Request) -> dict[str, str]:
    """The form of a request; BadForm when it is none, is too long, or has a parameter twice."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
        raise BadForm(f"The body must be {_FORM_TYPE}.")
    try:
        text = (await read_body(request, _LONGEST_FORM_BYTES)).decode()
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=32)
    except BodyTooLarge:
        raise BadForm(f"The form is longer than {_LONGEST_FORM_BYTES} bytes.") from None
    except ValueError:
        raise BadForm("The body is not a form in UTF-8.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise BadForm("A parameter is there twice.")
    return form


def needed(form: dict[str, str], name: str) -> str:
    """A parameter that must be there."""
    value = form.get(name, "")
    if not value:
        raise BadForm(f"The form has no {name}.")
    return value


def origin_of(request: Request) -> Origin:
    """Where a request came from, cut to what a log should hold."""
    address = request.client.host if request.client else ""
    return Origin(address=address, user_agent=request.headers.get("user-agent", "")[:200])


def answer(document: Any, status: int = 200) -> Response:
    headers = {"cache-control": "no-store", "pragma": "no-cache"}
    if status == 401:
        headers["www-authenticate"] = 'Basic realm="spinor", charset="UTF-8"'
    return Response(msgspec.json.encode(document), status, headers, media_type="application/json")


def refusal(error: SpinorError) -> Response:
    """The error as RFC 6749 section 5.2 wants it, with our own code beside."""
    usual = "invalid_request" if isinstance(error, BadInput) else "invalid_grant"
    name = getattr(error, "oauth_error", usual)
    status = 401 if name == "invalid_client" else 400
    return answer({"error": name, "error_description": error.message, "code": error.code}, status)
