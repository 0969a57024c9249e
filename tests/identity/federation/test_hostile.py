"""Providers that lie, are broken, or do not answer; and ID tokens that prove nothing."""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from joserfc.jwk import ECKey
from starlette.responses import RedirectResponse, Response

from spinor.identity.federation import signing_in
from spinor.identity.federation.jwts import SignInRefused, read_id_token
from spinor.identity.federation.models import Provider
from spinor.identity.federation.provider import ProviderRefuses, ProviderUnavailable, ProviderWrong, Upstream
from tests.identity.federation.hostile import (
    ACCESS_TOKEN,
    DISCOVERY,
    KEY,
    RSA,
    WEAK,
    Hostile,
    hostile_provider,
    public,
    signed,
    usual,
)
from tests.identity.federation.workbench import Clock

if TYPE_CHECKING:
    from pathlib import Path

    from tests.identity.federation.workbench import Spinor
    from tests.servers.authority import Authority


@pytest.fixture
async def hostile(authority: Authority) -> AsyncIterator[Hostile]:
    async with hostile_provider(authority) as it:
        yield it


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def upstream(hostile: Hostile, authority: Authority, tmp_path: Path, clock: Clock) -> Upstream:
    provider = Provider(
        name="bad",
        title="Bad",
        issuer=hostile.issuer,
        client_id="spinor",
        ca_file=str(authority.ca_file),
        client_secret_file="bad",
    )
    (tmp_path / "bad").touch(mode=0o600)
    (tmp_path / "bad").write_text("secret word+%\n")
    return Upstream(provider, tmp_path, clock)


async def claims_of(upstream: Upstream, token: str, nonce: str = "n") -> dict[str, Any]:
    return await read_id_token(upstream, token, nonce=nonce, access_token=ACCESS_TOKEN, now=time.time())


def half_hash(token: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(token.encode()).digest()[:16]).rstrip(b"=").decode()


async def test_an_honest_token_is_taken(upstream: Upstream, hostile: Hostile) -> None:
    claims = usual(hostile.issuer, nonce="n", at_hash=half_hash(ACCESS_TOKEN))
    assert (await claims_of(upstream, signed(claims)))["sub"] == "mallory"
    assert await claims_of(upstream, signed(claims, RSA, "RS256"))
    several = usual(hostile.issuer, nonce="n", aud=["spinor", "other"], azp="spinor")
    assert await claims_of(upstream, signed(several))
    assert await claims_of(upstream, signed(usual(hostile.issuer, nonce="n", exp=int(time.time()) - 50)))


@pytest.mark.parametrize(
    "more",
    [
        {"iss": "https://other.example.org"}, {"iss": None}, {"aud": "other"}, {"aud": ["other"]}, {"aud": None},
        {"aud": ["spinor", "other"]}, {"azp": "other"}, {"exp": 1}, {"exp": None}, {"exp": "soon"}, {"exp": True},
        {"iat": None}, {"iat": 2**33}, {"nbf": 2**33},
        {"nonce": None}, {"nonce": "other"}, {"nonce": 5}, {"sub": None}, {"sub": ""}, {"sub": 5}, {"sub": "x" * 256},
        {"at_hash": half_hash("another token")}, {"at_hash": 5}, {"typ": "Refresh"}, {"typ": "Bearer"},
    ],
)  # fmt: skip
async def test_claims_that_are_not_right_are_refused(
    upstream: Upstream, hostile: Hostile, more: dict[str, Any]
) -> None:
    with pytest.raises(SignInRefused):
        await claims_of(upstream, signed(usual(hostile.issuer, **{"nonce": "n", **more})))


async def test_clocks_may_differ_by_a_minute(upstream: Upstream, hostile: Hostile) -> None:
    now = int(time.time())
    for more, right in (
        ({"exp": now - 59}, True), ({"exp": now - 60}, False), ({"iat": now + 59}, True), ({"iat": now + 60}, False),
        ({"nbf": now + 59}, True), ({"nbf": now + 60}, False),
    ):  # fmt: skip
        token = signed(usual(hostile.issuer, nonce="n", **more))
        asked = read_id_token(upstream, token, nonce="n", access_token=ACCESS_TOKEN, now=now)
        if right:
            assert await asked
        else:
            with pytest.raises(SignInRefused):
                await asked


async def test_signatures_that_are_not_right_are_refused(upstream: Upstream, hostile: Hostile) -> None:
    claims = usual(hostile.issuer, nonce="n")
    good = signed(claims)
    head, body, signature = good.split(".")

    def plain(part: Any) -> str:
        return urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=").decode()

    stranger = ECKey.generate_key("P-256", {"kid": "one"})
    shared = RSA.as_pem(private=False)
    hs256 = f"{plain({'alg': 'HS256', 'kid': 'rsa'})}.{body}"
    mac = urlsafe_b64encode(hmac.digest(shared, hs256.encode(), hashlib.sha256)).rstrip(b"=").decode()
    wrong = [
        f"{plain({'alg': 'none'})}.{body}.", f"{plain({'alg': 'None', 'kid': 'one'})}.{body}.", f"{hs256}.{mac}",
        f"{head}.{plain({**claims, 'sub': 'ada'})}.{signature}", f"{head}.{body}.",
        f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        signed(claims, stranger), signed(claims, KEY, kid="unknown"), signed(claims, KEY, kid="../../one"),
        signed(claims, KEY, kid=None), signed(claims, RSA, "PS256", kid="one"), signed(claims, WEAK, "RS256"),
        signed(claims, KEY, jwk=KEY.as_dict(private=False)), signed(claims, KEY, jku="https://evil.example.org/jwks"),
        signed(claims, KEY, x5u="https://evil.example.org"), "", "..", "a.b.c", good + ".x", "x" * 100_000,
        f"{plain([1])}.{body}.{signature}", f"{plain({'alg': 'ES256', 'kid': 5})}.{body}.{signature}",
        f"{plain({'alg': 'ES256', 'kid': 'one', 'crit': ['b64'], 'b64': False})}.{body}.{signature}",
    ]  # fmt: skip
    for number, token in enumerate(wrong):
        with pytest.raises(SignInRefused):
            await claims_of(upstream, token)
            pytest.fail(f"token {number} was taken")
    assert await claims_of(upstream, good)


async def test_forged_keys_do_not_make_us_ask_again_and_again(
    upstream: Upstream, hostile: Hostile, clock: Clock
) -> None:
    for number in range(20):
        with pytest.raises(SignInRefused):
            await claims_of(upstream, signed(usual(hostile.issuer, nonce="n"), KEY, kid=f"forged-{number}"))
    assert [path for path, _, _ in hostile.asked].count("/jwks") == 1
    clock.ahead_s += 31
    with pytest.raises(SignInRefused):
        await claims_of(upstream, signed(usual(hostile.issuer, nonce="n"), KEY, kid="forged"))
    assert [path for path, _, _ in hostile.asked].count("/jwks") == 2


async def test_keys_are_kept_while_the_provider_is_away(upstream: Upstream, hostile: Hostile, clock: Clock) -> None:
    good = signed(usual(hostile.issuer, nonce="n"))
    assert await claims_of(upstream, good)
    hostile.answers["/jwks"] = hostile.answers[DISCOVERY] = Response(status_code=503)
    clock.ahead_s += 7 * 3600
    assert await claims_of(upstream, good)
    clock.ahead_s += 2 * 86400
    with pytest.raises(ProviderUnavailable):
        await claims_of(upstream, good)
    hostile.answers["/jwks"], hostile.answers[DISCOVERY] = public(KEY), hostile.metadata
    clock.ahead_s += 60
    assert await claims_of(upstream, good)


@pytest.mark.parametrize(
    "more",
    [
        {"issuer": "https://evil.example.org"}, {"issuer": None}, {"jwks_uri": "https://evil.example.org/jwks"},
        {"token_endpoint": "http://localhost/token"}, {"token_endpoint": "https://localhost@evil.example.org/token"},
        {"userinfo_endpoint": "https://localhost.evil.example.org/"}, {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": "file:///etc/passwd"}, {"token_endpoint": 5}, {"authorization_endpoint": "https://[", },
    ],
)  # fmt: skip
async def test_metadata_that_are_not_right_are_refused(
    upstream: Upstream, hostile: Hostile, more: dict[str, Any]
) -> None:
    hostile.answers[DISCOVERY] = {**hostile.metadata, **more}
    with pytest.raises(ProviderWrong):
        await upstream.metadata()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (RedirectResponse("https://evil.example.org/"), ProviderWrong),
        (Response(b"x" * (1024 * 1024 + 1)), ProviderWrong),
        (Response(b"<html>", media_type="text/html"), ProviderWrong),
        (Response(b"[]"), ProviderWrong),
        (Response(b"", 500), ProviderUnavailable),
        (Response(b"", 429), ProviderUnavailable),
        (Response(b"", 404), ProviderRefuses),
        (Response(b'{"error": "<script>\\n"}', 400), ProviderRefuses),
    ],
)
async def test_answers_that_are_not_right_are_refused(
    upstream: Upstream, hostile: Hostile, answer: Response, kind: type[Exception]
) -> None:
    hostile.answers[DISCOVERY] = answer
    with pytest.raises(kind) as caught:
        await upstream.metadata()
    assert "\n" not in str(caught.value)


async def test_a_provider_with_a_foreign_certificate_is_not_asked(hostile: Hostile, tmp_path: Path) -> None:
    provider = Provider(name="bad", title="Bad", issuer=hostile.issuer, client_id="spinor")
    with pytest.raises(ProviderUnavailable, match="certificate is not trusted"):
        await Upstream(provider, tmp_path).metadata()
    assert hostile.asked == []


async def test_a_provider_that_is_away_is_left_alone_for_a_moment(
    upstream: Upstream, hostile: Hostile, clock: Clock
) -> None:
    hostile.answers[DISCOVERY] = Response(status_code=503)
    for _ in range(5):
        with pytest.raises(ProviderUnavailable):
            await upstream.metadata()
    assert len(hostile.asked) == 1
    hostile.answers[DISCOVERY] = hostile.metadata
    clock.ahead_s += 6
    assert (await upstream.metadata()).issuer == hostile.issuer


async def test_the_secret_is_sent_as_it_must_be_and_is_in_no_error(
    upstream: Upstream, hostile: Hostile, tmp_path: Path
) -> None:
    hostile.answers["/token"] = Response(b'{"error": "invalid_grant"}', 400)
    with pytest.raises(ProviderRefuses, match="invalid_grant") as caught:
        await upstream.token({"grant_type": "authorization_code", "code": "the-code"})
    assert "the-code" not in str(caught.value)
    (path, authorization, body) = hostile.asked[-1]
    assert (path, authorization.startswith("Basic "), b"secret" in body) == ("/token", True, False)
    (tmp_path / "bad").chmod(0o644)
    with pytest.raises(ProviderWrong, match="chmod 600"):
        await upstream.token({})


@pytest.mark.parametrize(
    "answer",
    [
        {"access_token": "x", "token_type": "mac"}, {"access_token": "x"}, {"token_type": "Bearer"},
        {"access_token": 5, "token_type": "Bearer"}, {},
    ],
)  # fmt: skip
async def test_token_answers_that_are_not_right_are_refused(upstream: Upstream, hostile: Hostile, answer: Any) -> None:
    hostile.answers["/token"] = answer
    with pytest.raises(ProviderWrong):
        await upstream.token({})


async def test_userinfo_about_somebody_else_is_refused(upstream: Upstream, hostile: Hostile) -> None:
    hostile.gives("x")
    answered = await upstream.token({})
    hostile.answers["/me"] = {"sub": "ada", "eduperson_entitlement": ["x"]}
    with pytest.raises(SignInRefused, match="somebody else"):
        await signing_in.visitor_of(upstream, {"sub": "mallory"}, answered)
    hostile.answers["/me"] = {"eduperson_entitlement": ["x"]}
    with pytest.raises(SignInRefused, match="somebody else"):
        await signing_in.visitor_of(upstream, {"sub": "mallory"}, answered)


async def test_a_provider_that_is_down_leaves_the_page_and_the_others(spinor: Spinor, hostile: Hostile) -> None:
    from tests.servers.oidc import Client

    await spinor.provide("bad", hostile.issuer, Client("spinor", None))
    await spinor.provide("gone", "https://localhost:1", Client("spinor", None))
    async with spinor.person() as person:
        gone = await person.http.get("/login/gone")
        assert (gone.status_code, gone.headers["content-type"]) == (503, "text/html; charset=utf-8")
        assert "Login gone does not answer" in gone.text
        assert (await person.http.get("/login")).status_code == 200
        assert (await person.http.get("/login/bad")).status_code == 303
        hostile.answers[DISCOVERY] = {**hostile.metadata, "issuer": "https://evil.example.org"}
        assert (await person.http.get("/login/nothing")).status_code == 404
        program = await person.http.get("/login/gone", headers={"accept": "application/json"})
        assert (program.status_code, program.json()["code"]) == (503, "provider-unavailable")
