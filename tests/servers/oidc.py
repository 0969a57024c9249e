"""Node's certified oidc-provider as the login of a community: any users, clients and claims, opaque or JWT tokens."""

import base64
import contextlib
import hashlib
import html
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx
from joserfc.jwk import RSAKey

from bench.peers import ENVIRONMENTS
from tests.servers.authority import Authority
from tests.servers.process import ServerFailed, answers, environ, free_port, node, running, workplace

if TYPE_CHECKING:
    from playwright.async_api import Page

_SERVER = Path(__file__).with_name("oidc-provider") / "server.mjs"
_LIBRARY = ENVIRONMENTS / "oidc-provider" / "node_modules" / "oidc-provider" / "lib" / "index.js"
_CODE, _REFRESH = "authorization_code", "refresh_token"
_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
# Where a client may be called back that only `OIDCServer.sign_in` uses.
NOWHERE = "https://client.invalid/callback"


class Client(NamedTuple):
    client_id: str
    client_secret: str | None


class OIDCServer:
    """Whatever is added or changed holds from the next request on; sessions and tokens outlive it."""

    def __init__(self, place: Path, authority: Authority, options: Mapping[str, Any]) -> None:
        port = free_port()
        self.authority = authority
        self.ca_file = authority.ca_file
        self.issuer = f"https://localhost:{port}"
        self.file = place / "settings.json"
        self._settings: dict[str, Any] = {
            "issuer": self.issuer,
            "port": port,
            "cookie_key": secrets.token_urlsafe(32),
            "jwks": {"keys": [_new_key()]},
            "clients": {},
            "users": {},
            "access_token_claims": {},
            "ended_tokens": [],
            **options,
        }
        self._write()

    @property
    def port(self) -> int:
        return urlsplit(self.issuer).port or 443

    def add_user(self, sub: str, *, access_token_claims: Mapping[str, Any] | None = None, **claims: Any) -> None:
        """Add or change one. Sign-in takes the subject as name, and any password.

        Claims are served by their scopes, `wlcg.groups` is written wlcg_groups here; those of the access token are put
        into every JWT of this user, whatever its scope.
        """
        known = {"sub": sub, "email_verified": "email" in claims} | claims
        self._settings["users"][sub] = {_WRITTEN.get(name, name): value for name, value in known.items()}
        self._settings["access_token_claims"][sub] = dict(access_token_claims or {})
        self._write()

    def remove_user(self, sub: str) -> None:
        del self._settings["users"][sub]
        self._write()

    def add_client(
        self, client_id: str, redirect_uris: Sequence[str] = (), *, public: bool = False, pkce: bool = True, **more: Any
    ) -> Client:
        """A client for code, refresh, device flow and, if it has a secret, client credentials.

        `more` is further metadata of RFC 7591 in place of ours, for example grant_types or scope.
        """
        secret = None if public else secrets.token_urlsafe(32)
        grants = [_CODE, _REFRESH, _DEVICE, *([] if public else ["client_credentials"])]
        self._settings["clients"][client_id] = {
            "client_id": client_id,
            "redirect_uris": [NOWHERE, *redirect_uris],
            "grant_types": grants,
            "response_types": ["code"],
            "token_endpoint_auth_method": "none" if public else "client_secret_basic",
            "pkce": pkce,
            **({} if public else {"client_secret": secret}),
            **more,
        }
        self._write()
        return Client(client_id, secret)

    def rotate_keys(self, *, keep_old: bool = True) -> None:
        """Sign with a new key from now on; the old ones stay published, or are withdrawn."""
        old = self._settings["jwks"]["keys"] if keep_old else []
        self._settings["jwks"] = {"keys": [_new_key(), *old]}
        self._write()

    def end_token(self, token: str) -> None:
        """Refuse an opaque token from now on, as if it had expired."""
        self._settings["ended_tokens"].append(token)
        self._write()

    @property
    def key_ids(self) -> list[str]:
        """Of the published keys, the signing one first."""
        return [key["kid"] for key in self._settings["jwks"]["keys"]]

    def set(self, **options: Any) -> None:
        """Change an option of `oidc_server`."""
        self._settings |= options
        self._write()

    def http(self) -> httpx.Client:
        """A client that trusts this server and remembers its cookies."""
        return httpx.Client(base_url=self.issuer, verify=self.authority.context(), trust_env=False, timeout=60)

    def sign_in(self, client: Client, sub: str, scope: str = "openid", **more: str) -> dict[str, Any]:
        """The answer of the token endpoint after a code flow with PKCE, done without a browser."""
        verifier = secrets.token_urlsafe(48)
        asked = {
            "client_id": client.client_id, "response_type": "code", "redirect_uri": NOWHERE, "scope": scope,
            "code_challenge": challenge(verifier), "code_challenge_method": "S256",
        }  # fmt: skip
        if "offline_access" in scope.split():
            asked["prompt"] = "consent"
        with self.http() as http:
            came_back = consent(http, f"{self.issuer}/auth?{urlencode(asked | more)}", sub, until=NOWHERE)
            answer = parse_qs(urlsplit(came_back).query)
            if "code" not in answer:
                raise ServerFailed(f"oidc-provider refuses the sign-in: {answer}")
            given = {"grant_type": _CODE, "code": answer["code"][0], "redirect_uri": NOWHERE, "code_verifier": verifier}
            return self.token(client, **given)

    def token(self, client: Client, **form: str) -> dict[str, Any]:
        """Ask the token endpoint as this client; the answer, or ServerFailed with the error."""
        with self.http() as http:
            if client.client_secret is None:
                answer = http.post("/token", data=form | {"client_id": client.client_id})
            else:
                answer = http.post("/token", data=form, auth=(client.client_id, client.client_secret))
        if answer.status_code != 200:
            raise ServerFailed(f"oidc-provider refuses a token: {answer.text}")
        tokens: dict[str, Any] = answer.json()
        return tokens

    def _write(self) -> None:
        draft = self.file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(self._settings))
        draft.replace(self.file)


_WRITTEN = {"wlcg_groups": "wlcg.groups"}


@contextlib.contextmanager
def oidc_server(
    authority: Authority,
    *,
    audience: str | None = None,
    claims_in_id_token: bool = False,
    access_token_s: int = 3600,
    device_code_s: int = 600,
    scopes: Sequence[str] = (),
) -> Iterator[OIDCServer]:
    """A provider of one's own, until the end of the block.

    With an audience all access tokens are JWTs for it, which the library's own userinfo then refuses; without they are
    opaque and userinfo takes them. Claims are in the ID token, too, if asked; `scopes` are known besides those of
    claims (profile, email, eduperson_entitlement, wlcg.groups, voperson_id, ...).
    """
    options = {
        "audience": audience, "claims_in_id_token": claims_in_id_token, "access_token_s": access_token_s,
        "device_code_s": device_code_s, "scopes": list(scopes),
    }  # fmt: skip
    with workplace("oidc") as place:
        server = OIDCServer(place, authority, options)
        host = authority.host()
        argv = [node(), str(_SERVER), str(_LIBRARY), str(server.file), str(host.key), str(host.certificate)]
        discovery = f"{server.issuer}/.well-known/openid-configuration"
        # Node in its production mode does not print what a request brought.
        env = environ(place, NODE_ENV="production")
        with running(argv, lambda: answers(discovery, authority.ca_file), place / "oidc-provider.log", env=env):
            yield server


async def sign_in(page: "Page", sub: str) -> None:
    """In the browser: the form for the name, then the one for the consent."""
    await page.fill("input[name=login]", sub)
    await page.fill("input[name=password]", "any")
    await page.click("button[type=submit]")
    await agree(page)


async def agree(page: "Page") -> None:
    """The page of consent alone, which is all that somebody sees who is signed in."""
    await page.click("form:has(input[name=prompt][value=consent]) button[type=submit]")


def consent(http: httpx.Client, url: str, sub: str, until: str) -> str:
    """Post whatever forms the provider shows from this address on; the address that begins with `until`."""
    answer = http.get(url)
    for _ in range(20):
        if answer.is_redirect:
            url = urljoin(url, answer.headers["location"])
            if url.startswith(until):
                return url
            answer = http.get(url)
            continue
        action = re.search(r'<form[^>]* action="([^"]+)"', answer.text)
        if answer.status_code != 200 or not action:
            break
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', answer.text))
        url = urljoin(url, html.unescape(action[1]))
        answer = http.post(url, data=fields | {"login": sub, "password": "any"})
    raise ServerFailed(f"oidc-provider does not lead to {until}: {answer.status_code} {answer.text[:2000]}")


def challenge(verifier: str) -> str:
    """S256 of PKCE (RFC 7636)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _new_key() -> dict[str, Any]:
    key = RSAKey.generate_key(2048, {"kid": secrets.token_hex(8), "use": "sig", "alg": "RS256"}, private=True)
    return dict(key.as_dict(private=True))
