"""What a program may ask of a browser, and what is refused: where to, how, and to whom the refusal is told.

As long as the program and the place to send the browser back to are not both known to be good, the person is told
(Misdirected); after that the program is (SendBack). RFC 6749 section 4.1.2.1, RFC 9700 section 4.11.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from urllib.parse import urlencode

import msgspec

from spinor.errors import BadInput
from spinor.identity.oauth.clients import CODE, OAuthClient
from spinor.identity.oauth.endpoint import BadForm
from spinor.identity.oauth.flows.models import AuthorizationRequest

OPENID = "openid"
_LOOPBACK = re.compile(
    r"(?P<host>http://(?:127\.0\.0\.1|\[::1\]))(?::[0-9]{1,5})?(?P<path>(?:/[A-Za-z0-9._~-]+)*/?)", re.ASCII
)
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_VISIBLE = re.compile(r"[\x21-\x7e]{1,1024}")
_WORDS = re.compile(r"[\x20-\x7e]{0,1024}")
_LONGEST_VALUE = 2048


class Misdirected(BadInput):
    """The program that sent you here, or the place where it wants you back, is not known to this service."""

    status, code = 400, "misdirected"


class SendBack(BadInput):
    """The program asked for something that it cannot have; it is told so."""

    code = "sent-back"

    def __init__(self, oauth_error: str, message: str, redirect_uri: str, state: str) -> None:
        super().__init__(message)
        self.oauth_error, self.redirect_uri, self.state = oauth_error, redirect_uri, state


class VerifierRefused(BadForm):
    """The code_verifier is not the one that belongs to this sign-in (RFC 7636); start again with `spinor login`."""

    code = "verifier-refused"
    oauth_error = "invalid_grant"


def parameters_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The parameters of an authorization request; Misdirected when one is there twice or is too long."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise Misdirected(f"The address has the parameter {name[:60]!r} twice, so it cannot be trusted.")
        if len(value) > _LONGEST_VALUE:
            raise Misdirected(f"The parameter {name[:60]!r} of the address is longer than {_LONGEST_VALUE} characters.")
        found[name] = value
    return found


def where_to(parameters: dict[str, str], client: OAuthClient | None) -> str:
    """The place to send the browser back to, when it is one of the client's; Misdirected otherwise."""
    if client is None:
        raise Misdirected("The program that sent you here (its client_id) is not known to this service.")
    wanted = parameters.get("redirect_uri", "")
    if not any(fits(wanted, registered) for registered in client.redirect_uris):
        raise Misdirected(f"{client.name} wants you back at an address that is not registered for it.")
    return wanted


def fits(wanted: str, registered: str) -> bool:
    """Whether an address is the registered one, character by character; one on this computer may have any port.

    RFC 8252 section 7.3. A loopback address that is registered without a path takes any plain path, and no query.
    """
    known, given = _LOOPBACK.fullmatch(registered), _LOOPBACK.fullmatch(wanted)
    if known is None:
        return wanted == registered and bool(registered)
    return given is not None and given["host"] == known["host"] and known["path"] in ("", given["path"])


def read_request(parameters: dict[str, str], client: OAuthClient, redirect_uri: str) -> AuthorizationRequest:
    """The request of a client that is known, to a place that is its own; SendBack when it cannot have that."""
    state = parameters.get("state", "")
    if not _VISIBLE.fullmatch(state):
        raise SendBack("invalid_request", "state is missing, or has other than visible characters.", redirect_uri, "")

    def refuse(oauth_error: str, message: str) -> SendBack:
        return SendBack(oauth_error, message, redirect_uri, state)

    for name in ("request", "request_uri", "registration"):
        if name in parameters:
            raise refuse(f"{name}_not_supported", f"The parameter {name} is not supported.")
    if not parameters.get("response_type"):
        raise refuse("invalid_request", "response_type is missing.")
    if parameters["response_type"] != "code":
        raise refuse("unsupported_response_type", "Only response_type=code is offered.")
    if parameters.get("response_mode", "query") != "query":
        raise refuse("invalid_request", "Only response_mode=query is offered.")
    if CODE not in client.grants:
        raise refuse("unauthorized_client", "This client may not use the authorization code flow.")
    if fault := challenge_fault(parameters):
        raise refuse("invalid_request", fault)
    for name in ("scope", "nonce", "vo", "group", "prompt"):
        if not _WORDS.fullmatch(parameters.get(name, "")):
            raise refuse("invalid_request", f"{name} has other than visible characters, or is too long.")
    known = AuthorizationRequest.__struct_fields__
    return msgspec.convert({name: parameters[name] for name in known if name in parameters}, AuthorizationRequest)


def challenge_fault(parameters: dict[str, str]) -> str:
    """What is wrong with the PKCE challenge; empty when nothing is. Its default method is `plain`, which is refused."""
    if not parameters.get("code_challenge"):
        return "code_challenge is missing (RFC 7636); every client needs one here."
    if parameters.get("code_challenge_method") != "S256":
        return "code_challenge_method must be S256."
    if not _CHALLENGE.fullmatch(parameters["code_challenge"]):
        return "code_challenge must be 43 characters of base64url."
    return ""


def check_verifier(challenge: str, verifier: str) -> None:
    """VerifierRefused unless the verifier belongs to the challenge; where there was no challenge there can be none."""
    if not challenge and not verifier:
        return
    digest = hashlib.sha256(verifier.encode()).digest()
    found = urlsafe_b64encode(digest).rstrip(b"=")
    if not _VERIFIER.fullmatch(verifier) or not hmac.compare_digest(found, challenge.encode()):
        raise VerifierRefused


def granted_scope(asked: str) -> str:
    """What Spinor's own scopes a request means. `openid` is none of them: alone it asks to know who one is, no more."""
    words = asked.split()
    own = [word for word in words if word != OPENID]
    return " ".join(own) if own or not words else "self:read"


def with_answer(redirect_uri: str, **answer: str) -> str:
    """The place to send the browser back to, with the answer in its query (RFC 6749 section 4.1.2)."""
    return redirect_uri + ("&" if "?" in redirect_uri else "?") + urlencode(answer)
