"""Asking an OpenID provider: where its endpoints are, which keys it has, what a code, a token or a person is.

Every call leaves this machine, so none is made inside a transaction. Answers are bounded in size and time, redirects
are not followed, certificates are checked like everywhere, and an answer is believed only as far as it is that of the
issuer which the operations data name.
"""

import asyncio
import ssl
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

import httpx
import msgspec
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from spinor.errors import SpinorError, Unavailable
from spinor.identity.federation.models import Provider
from spinor.x509.tls import client_context

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_LARGEST_BYTES = 1024 * 1024
_FRESH_S = 6 * 3600.0  # So long a discovery document and keys are used without asking again (AARC-G081: 1 to 6 h),
_STALE_S = 2 * 86400.0  # and so long while the provider cannot be asked.
_KEYS_AGAIN_S = 30.0  # A token with an unknown key makes us look for new keys, but not more often than that.
_QUIET_S = 5.0  # Who did not answer is not asked again at once, so that people do not queue for a dead provider.
_SMALLEST_RSA_BITS = 2048
VerificationKey = RSAKey | ECKey | OKPKey


class ProviderUnavailable(Unavailable):
    """The provider does not answer as it should just now; try again in a moment, or sign in another way."""

    code = "provider-unavailable"


class ProviderWrong(SpinorError):
    """The provider's answer cannot be accepted; its operators or those of this service have to look at it."""

    status, code = 502, "provider-wrong"


class ProviderRefuses(SpinorError):
    """The provider does not accept what we showed it; sign in again."""

    status, code = 403, "provider-refuses"

    def __init__(self, message: str | None = None, *, error: str = "") -> None:
        super().__init__(message)
        self.error = error


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What of the discovery document is used (OpenID Connect Discovery, RFC 8414, RFC 9207)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    introspection_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a token endpoint, as far as it is used."""

    access_token: str
    token_type: str
    id_token: str = ""
    refresh_token: str = ""
    scope: str = ""


class Upstream:
    """One provider. What it said is remembered by this process, and asked for again when it has aged."""

    def __init__(self, provider: Provider, secrets_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self.provider = provider
        self._secrets_dir = secrets_dir
        self._clock = clock
        self._metadata: tuple[float, Metadata] | None = None
        self._keys: tuple[float, dict[str, VerificationKey]] | None = None
        self._keys_asked_at = float("-inf")
        self._failed: tuple[float, ProviderUnavailable] | None = None
        self._one_asks = asyncio.Lock()
        self._trust: ssl.SSLContext | None = None

    async def metadata(self) -> Metadata:
        """The discovery document, when it is that of our issuer and all its endpoints are where they may be."""
        async with self._one_asks:
            known, now = self._metadata, self._clock()
            if known and now - known[0] < _FRESH_S:
                return known[1]
            try:
                found = await self._discovered()
            except ProviderUnavailable:
                if known and now - known[0] < _STALE_S:
                    return known[1]
                raise
            self._metadata = (now, found)
            return found

    async def key(self, kid: str) -> VerificationKey | None:
        """The key of that name; an empty name means the only one. A new one is looked for, but not for every token."""
        address = (await self.metadata()).jwks_uri
        async with self._one_asks:
            now = self._clock()
            fresh = self._keys is not None and now - self._keys[0] < _FRESH_S
            found = self._known_key(kid)
            if (fresh and found) or now - self._keys_asked_at < _KEYS_AGAIN_S:
                return found
            self._keys_asked_at = now
            try:
                self._keys = (now, _usable_keys(await self.ask("GET", address)))
            except ProviderUnavailable:
                if self._keys is None or now - self._keys[0] >= _STALE_S:
                    self._keys_asked_at = float("-inf")
                    raise
            return self._known_key(kid)

    def _known_key(self, kid: str) -> VerificationKey | None:
        keys = self._keys[1] if self._keys else {}
        if kid:
            return keys.get(kid)
        return next(iter(keys.values())) if len(keys) == 1 else None

    async def token(self, form: Mapping[str, str]) -> Answered:
        """Ask the token endpoint as the client that we are there; ProviderRefuses with its error."""
        metadata = await self.metadata()
        answer = await self._ask_as_client(metadata.token_endpoint, form, metadata)
        try:
            found = msgspec.convert(answer, Answered)
        except msgspec.ValidationError:
            raise self.wrong("its token endpoint does not answer as RFC 6749 says") from None
        if found.token_type.lower() != "bearer":
            raise self.wrong("it gives tokens of another type than Bearer")
        return found

    async def introspect(self, token: str) -> dict[str, Any]:
        """What the provider says about a token (RFC 7662)."""
        metadata = await self.metadata()
        if not metadata.introspection_endpoint or not self.provider.client_secret_file:
            raise ProviderRefuses(f"Tokens of {self.provider.title} that are not JWTs cannot be examined here.")
        return await self._ask_as_client(metadata.introspection_endpoint, {"token": token}, metadata)

    async def userinfo(self, access_token: str) -> dict[str, Any]:
        """The claims about the person of a token; ProviderRefuses when the token is not good for that."""
        metadata = await self.metadata()
        if not metadata.userinfo_endpoint:
            return {}
        return await self.ask("GET", metadata.userinfo_endpoint, headers={"authorization": f"Bearer {access_token}"})

    async def ask(
        self,
        method: str,
        address: str,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> dict[str, Any]:
        """The JSON object that is answered."""
        if self._failed and self._clock() < self._failed[0]:
            raise self._failed[1]
        try:
            status, body = await self._exchange(method, address, form, headers, auth)
        except (httpx.HTTPError, OSError) as error:
            # The text of the error may quote the request; its kind is enough, and what is wrong with a certificate.
            raise self._away(_reason(error)) from None
        if status >= 500 or status == 429:
            raise self._away(f"it answered {status}")
        if 300 <= status < 400:
            raise self.wrong("it answered with a redirect where none may be")
        try:
            found = msgspec.json.decode(body)
        except msgspec.DecodeError:
            found = None
        if status >= 400:
            said = found.get("error") if isinstance(found, dict) else None
            name = said if isinstance(said, str) and said.isascii() and said.isprintable() else str(status)
            raise ProviderRefuses(f"{self.provider.title} refuses: {name[:60]}.", error=name[:60])
        if not isinstance(found, dict):
            raise self.wrong("it did not answer with a JSON object")
        return found

    def wrong(self, what: str) -> ProviderWrong:
        return ProviderWrong(f"{self.provider.title} cannot be believed: {what}.", provider=self.provider.name)

    async def _discovered(self) -> Metadata:
        issuer = self.provider.issuer
        answer = await self.ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        try:
            found = msgspec.convert(answer, Metadata)
        except msgspec.ValidationError:
            raise self.wrong("its discovery document lacks what is needed") from None
        if found.issuer != issuer:
            raise self.wrong("its discovery document is that of another issuer")
        hosts = {urlsplit(issuer).netloc.lower(), *(host.lower() for host in self.provider.hosts)}
        for name in ("authorization", "token", "userinfo", "introspection"):
            self._check_place(name, getattr(found, f"{name}_endpoint"), hosts)
        self._check_place("jwks", found.jwks_uri, hosts)
        return found

    def _check_place(self, name: str, address: str, hosts: set[str]) -> None:
        try:
            parts = urlsplit(address)
            place = (parts.scheme, parts.netloc.lower(), parts.fragment)
        except ValueError:
            place = ("", "", "")
        if address and not (place[0] == "https" and place[1] in hosts and not place[2]):
            raise self.wrong(f"its {name} endpoint is on another host than its issuer, or not at an https address")

    async def _ask_as_client(self, address: str, form: Mapping[str, str], metadata: Metadata) -> dict[str, Any]:
        client_id, secret = self.provider.client_id, self._secret()
        if not secret:
            return await self.ask("POST", address, form={**form, "client_id": client_id})
        if "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            return await self.ask("POST", address, form=form, auth=(quote_plus(client_id), quote_plus(secret)))
        return await self.ask("POST", address, form={**form, "client_id": client_id, "client_secret": secret})

    def _secret(self) -> str:
        name = self.provider.client_secret_file
        if not name:
            return ""
        path = self._secrets_dir / name
        try:
            if path.stat().st_mode & 0o077:
                raise ProviderWrong(f"The secret of {self.provider.title} can be read by others; run chmod 600 on it.")
            return path.read_text().strip()
        except OSError as error:
            raise ProviderWrong(
                f"The secret of {self.provider.title} cannot be read: {error.strerror} (secrets/providers/{name})."
            ) from None

    async def _exchange(
        self,
        method: str,
        address: str,
        form: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        auth: tuple[str, str] | None,
    ) -> tuple[int, bytes]:
        sent = {"accept": "application/json", "accept-encoding": "identity", **(headers or {})}
        options: dict[str, Any] = {"auth": auth} if auth else {}
        async with asyncio.timeout(2 * (_TIMEOUT.read or 10.0)):
            async with httpx.AsyncClient(verify=self._context(), trust_env=False, timeout=_TIMEOUT) as http:
                async with http.stream(method, address, data=form, headers=sent, **options) as answer:
                    body = bytearray()
                    async for part in answer.aiter_raw():
                        body += part
                        if len(body) > _LARGEST_BYTES:
                            raise self.wrong(f"its answer is longer than {_LARGEST_BYTES:,} bytes")
                    return answer.status_code, bytes(body)

    def _context(self) -> ssl.SSLContext:
        if self._trust is None:
            try:
                self._trust = client_context(self.provider.ca_file or None)
            except OSError as error:
                raise self.wrong(f"its ca_file cannot be used ({error.strerror or type(error).__name__})") from None
        return self._trust

    def _away(self, why: str) -> ProviderUnavailable:
        error = ProviderUnavailable(
            f"{self.provider.title} does not answer as it should just now ({why}); try again in a moment, or sign in "
            "another way.",
            provider=self.provider.name,
        )
        self._failed = (self._clock() + _QUIET_S, error)
        return error


class Upstreams:
    """The providers that this process has asked. One whose description changed is asked anew."""

    def __init__(self, secrets_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._secrets_dir = secrets_dir
        self._known: dict[str, Upstream] = {}
        # Whom exchanged tokens are about, by their hash: until when that holds, by which description, the subject.
        self.tokens: dict[bytes, tuple[float, Upstream, str]] = {}

    def of(self, provider: Provider) -> Upstream:
        known = self._known.get(provider.name)
        if known is None or known.provider != provider:
            known = self._known[provider.name] = Upstream(provider, self._secrets_dir, self.clock)
        return known


def _reason(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    return "it took too long" if isinstance(error, TimeoutError | httpx.TimeoutException) else "it cannot be reached"


def _usable_keys(document: dict[str, Any]) -> dict[str, VerificationKey]:
    """The public keys that a signature may be checked with, by name. What we do not understand is left out."""
    found: dict[str, VerificationKey] = {}
    given = document.get("keys")
    for number, each in enumerate(given[:100] if isinstance(given, list) else []):
        if not isinstance(each, dict) or each.get("use", "sig") != "sig" or "d" in each or "k" in each:
            continue
        try:
            with warnings.catch_warnings(action="ignore", category=SecurityWarning):  # Weak ones are left out below.
                key = JWKRegistry.import_key(each)
        except (JoseError, ValueError, TypeError):
            continue
        if isinstance(key, RSAKey) and key.raw_value.key_size < _SMALLEST_RSA_BITS:
            continue
        if isinstance(key, RSAKey | ECKey | OKPKey):
            found[key.kid or f"#{number}"] = key
    return found
