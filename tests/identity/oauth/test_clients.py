"""Clients: how they prove to be themselves, and what each of them may not."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import time
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey

from spinor.identity.oauth.authentication import Guesses
from spinor.identity.oauth.clients import ClientRefused
from tests.identity.oauth.server import (
    ASSERTION_TYPE,
    EXCHANGE,
    INTROSPECT,
    REVOKE,
    SECRET,
    TOKEN,
    URL,
    Answer,
    Server,
    basic,
)

ES256 = jws.JWSRegistry(algorithms=["ES256"]).get_alg("ES256")
CREDENTIALS = {"grant_type": "client_credentials"}


def is_refused(answer: Answer) -> bool:
    assert answer.status == 401, answer.body
    assert answer.body["error"] == "invalid_client"
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert answer.headers["cache-control"] == "no-store"
    return True


async def test_a_secret_in_the_header_or_in_the_form(server: Server) -> None:
    assert (await server.form(TOKEN, CREDENTIALS, basic("runner"))).status == 200
    posted = {**CREDENTIALS, "client_id": "runner", "client_secret": SECRET}
    assert (await server.form(TOKEN, posted)).status == 200
    assert (await server.form(TOKEN, {**CREDENTIALS, "client_id": "runner"}, basic("runner"))).status == 200


PROVE_NOTHING: list[Any] = [
    ({}, basic("runner", "wrong")),
    ({}, basic("runner", "")),
    ({}, basic("runner", SECRET[:-1])),
    ({}, basic("runner", SECRET + "\n")),
    ({}, basic("nobody")),
    ({}, basic("")),
    ({}, basic("spinor-cli", SECRET)),
    ({}, basic("signer")),
    ({"client_id": "runner"}, {}),
    ({"client_id": "runner", "client_secret": ""}, {}),
    ({"client_id": "nobody", "client_secret": SECRET}, {}),
    ({"client_id": "\0", "client_secret": SECRET}, {}),
    ({"client_id": "spinor-cli", "client_secret": SECRET}, {}),
    ({"client_id": "signer", "client_secret": SECRET}, {}),
    ({"client_id": "gateway"}, basic("runner")),
    ({"client_secret": SECRET}, basic("runner")),
    ({}, {"authorization": "Basic !!!"}),
    ({}, {"authorization": "Basic " + base64.b64encode(b"runner").decode()}),
    ({}, {"authorization": "Basic /w=="}),
    ({}, {"authorization": "Bearer " + SECRET}),
    ({}, {}),
]


async def test_who_proves_nothing_is_refused(server: Server) -> None:
    for fields, headers in PROVE_NOTHING:
        server.guesses._failed.clear()
        for path in (TOKEN, REVOKE, INTROSPECT):
            answer = await server.form(path, {**CREDENTIALS, "token": "x", **fields}, headers)
            assert is_refused(answer), (fields, headers)
            assert SECRET not in json.dumps(answer.body)


async def test_a_client_named_twice_is_refused(server: Server) -> None:
    body = b"grant_type=client_credentials&client_id=runner&client_id=gateway&client_secret=" + SECRET.encode()
    answer = await server.send("POST", TOKEN, body, {"content-type": "application/x-www-form-urlencoded"})
    assert (answer.status, answer.body["error"]) == (400, "invalid_request")


async def test_the_answer_does_not_tell_which_clients_there_are(server: Server) -> None:
    known = await server.form(TOKEN, CREDENTIALS, basic("runner", "wrong"))
    unknown = await server.form(TOKEN, CREDENTIALS, basic("nobody", "wrong"))
    assert known.body == unknown.body


async def test_guesses_are_few(server: Server) -> None:
    for _ in range(10):
        assert is_refused(await server.form(TOKEN, CREDENTIALS, basic("runner", "wrong")))
    answer = await server.form(TOKEN, CREDENTIALS, basic("runner"))
    assert is_refused(answer), "even the right one is not listened to now"
    assert "minute" in answer.body["error_description"]
    assert (await server.form(TOKEN, CREDENTIALS, basic("gateway"))).body["error"] == "unauthorized_client"


def test_guesses_are_forgotten_and_bounded() -> None:
    now = [0.0]
    guesses = Guesses(lambda: now[0])
    for _ in range(10):
        guesses.note("runner", "192.0.2.1")
    with pytest.raises(ClientRefused):
        guesses.check("runner", "192.0.2.1")
    guesses.check("runner", "192.0.2.2")
    now[0] += 61
    guesses.check("runner", "192.0.2.1")
    for number in range(20_000):
        guesses.note(f"client-{number}", "192.0.2.3")
    assert len(guesses._failed) <= 10_000


async def test_a_secret_that_others_can_read_opens_nothing(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    path = server.settings.data_dir / "secrets" / "clients" / "runner"
    for mode in (0o640, 0o604):
        path.chmod(mode)
        with caplog.at_level(logging.ERROR):
            answer = await server.form(TOKEN, CREDENTIALS, basic("runner"))
        assert is_refused(answer)
        assert str(path) not in json.dumps(answer.body)
    assert "chmod 600" in str(caplog.records[0].__dict__)


async def test_a_secret_file_that_is_none(server: Server) -> None:
    path = server.settings.data_dir / "secrets" / "clients" / "runner"
    path.unlink()
    for change in ("gone", "link", "short", "directory"):
        if change == "link":
            path.symlink_to(path.with_name("gateway"))
        elif change == "short":
            path.touch(mode=0o600)
            path.write_text("letmein")
        elif change == "directory":
            path.mkdir(mode=0o700)
        secret = "letmein" if change == "short" else SECRET
        assert is_refused(await server.form(TOKEN, CREDENTIALS, basic("runner", secret))), change
        assert is_refused(await server.form(TOKEN, CREDENTIALS, basic("runner", ""))), change
        if change in ("link", "short"):
            path.unlink()


async def test_a_changed_secret_holds_at_once(server: Server) -> None:
    path = server.settings.data_dir / "secrets" / "clients" / "runner"
    path.write_text("n" * 40)
    assert is_refused(await server.form(TOKEN, CREDENTIALS, basic("runner")))
    assert (await server.form(TOKEN, CREDENTIALS, basic("runner", "n" * 40))).status == 200


# ---------------------------------------------------------------------------------------------------- by signature


async def signed(server: Server, assertion: str, **more: str) -> Answer:
    fields = {**CREDENTIALS, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion, **more}
    return await server.form(TOKEN, fields)


async def test_a_client_proves_itself_by_its_key(server: Server) -> None:
    for audience in (URL + TOKEN, URL, [URL]):
        assert (await signed(server, server.assertion(aud=audience))).status == 200
        assert (await signed(server, server.assertion(aud=audience), client_id="signer")).status == 200


async def test_an_assertion_is_good_once(server: Server) -> None:
    assertion = server.assertion()
    assert (await signed(server, assertion)).status == 200
    assert is_refused(await signed(server, assertion))


DO_NOT_HOLD: list[Any] = [
    {"iss": "runner"},
    {"sub": "runner"},
    {"iss": "runner", "sub": "runner"},
    {"iss": None},
    {"sub": None},
    {"aud": None},
    {"aud": "https://other.example.org"},
    {"aud": URL + "/"},
    {"aud": [URL, "https://other.example.org"]},
    {"aud": []},
    {"aud": {"x": URL}},
    {"exp": None},
    {"exp": 0},
    {"exp": "soon"},
    {"exp": float("nan")},
    {"exp": True},
    {"exp": time.time() + 3600},
    {"exp": time.time() - 70},
    {"iat": time.time() + 3600},
    {"nbf": time.time() + 3600},
    {"jti": None},
    {"jti": ""},
    {"jti": "x" * 300},
    {"jti": 7},
]


async def test_assertions_that_do_not_hold(server: Server) -> None:
    for changes in DO_NOT_HOLD:
        server.guesses._failed.clear()
        assert is_refused(await signed(server, server.assertion(**changes))), changes


ASK_FOR_MORE: list[Any] = [
    {"typ": "at+jwt"},
    {"typ": "logout+jwt"},
    {"kid": "nobody"},
    {"kid": "../../../etc/passwd"},
    {"jku": "https://evil.example.org/jwks"},
    {"x5u": "https://evil.example.org/x5u"},
    {"crit": ["exp"], "exp": 1},
    {"jwk": {"kty": "EC"}},
    {"x5c": ["MIIB"]},
]


async def test_headers_that_ask_for_more(server: Server) -> None:
    for header in ASK_FOR_MORE:
        full = {"alg": "ES256", "kid": server.client_key.kid, **header}
        signing_input = f"{_b64(json.dumps(full).encode())}.{server.assertion().split('.')[1]}"
        signature = ES256.sign(signing_input.encode(), server.client_key)
        assert is_refused(await signed(server, f"{signing_input}.{_b64(signature)}")), header


async def test_the_algorithm_is_the_keys_and_not_the_tokens(server: Server) -> None:
    """RFC 8725: none, HMAC over the public key, a key of somebody else."""
    claims = server.assertion().split(".")[1]
    for name in ("none", "None", "HS256", "ES384", "RS256", "", None, 7):
        header = _b64(json.dumps({"alg": name, "kid": server.client_key.kid}).encode())
        for signature in ("", "AAAA"):
            assert is_refused(await signed(server, f"{header}.{claims}.{signature}"))
            server.guesses._failed.clear()
    for public in (
        server.client_key.as_pem(private=False),
        json.dumps(server.client_key.as_dict(private=False)).encode(),
    ):
        header = _b64(json.dumps({"alg": "HS256", "kid": server.client_key.kid}).encode())
        forged = f"{header}.{claims}"
        tag = hmac.digest(public, forged.encode(), "sha256")
        assert is_refused(await signed(server, f"{forged}.{_b64(tag)}"))
    assert is_refused(await signed(server, server.assertion(key=ECKey.generate_key("P-256"))))
    assert is_refused(await signed(server, server.assertion({"alg": "HS256"}, OctKey.generate_key(256))))


async def test_two_equal_names_are_read_by_nobody(server: Server) -> None:
    now = int(time.time())
    text = json.dumps({"iss": "signer", "aud": URL, "exp": now + 60, "jti": "j", "sub": "signer"}).encode()
    text = text.replace(b'"sub"', b'"sub": "runner", "sub"')
    header = {"alg": "ES256", "kid": server.client_key.kid}
    doubled = jws.serialize_compact(header, text, server.client_key, algorithms=["ES256"])
    assert is_refused(await signed(server, doubled))


async def test_what_is_no_assertion(server: Server) -> None:
    for assertion in ("", ".", "a.b", "a.b.c", "a.b.c.d.e", "é.é.é", "e30.e30.e30", "bnVsbA.bnVsbA.x"):
        assert is_refused(await signed(server, assertion)), assertion


async def test_an_oversized_or_nested_assertion_is_not_looked_at(server: Server) -> None:
    assert is_refused(await signed(server, server.assertion(filler="x" * 10_000)))
    deep = _b64(b"[" * 5000 + b"]" * 5000)
    assert is_refused(await signed(server, f"{deep}.{deep}.AAAA"))


async def test_the_type_of_the_assertion_must_be_said(server: Server) -> None:
    for kind in ("", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"):
        assert is_refused(await signed(server, server.assertion(), client_assertion_type=kind))


async def test_a_client_cannot_prove_itself_twice(server: Server) -> None:
    assertion = server.assertion()
    assert is_refused(await signed(server, assertion, client_secret=SECRET))
    fields = {**CREDENTIALS, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    assert is_refused(await server.form(TOKEN, fields, basic("runner")))


# ---------------------------------------------------------------------------------------------------- whose grants


async def test_each_client_has_its_own_grants_only(server: Server) -> None:
    grants = {
        "runner": {"client_credentials", EXCHANGE},
        "gateway": {"refresh_token", EXCHANGE},
        "second-gateway": {EXCHANGE},
    }
    for name, allowed in grants.items():
        for grant in ("client_credentials", EXCHANGE, "refresh_token"):
            answer = await server.as_client(name, TOKEN, grant_type=grant)
            assert (answer.body.get("error") == "unauthorized_client") == (grant not in allowed), (name, grant)


async def test_a_retired_client_and_its_sessions_end(server: Server) -> None:
    token = (await server.form(TOKEN, CREDENTIALS, basic("runner"))).body["access_token"]
    from spinor.identity.oauth.registry import service as registry

    async with server.world.db.transaction() as tx:
        await registry.sync_clients(tx, [])
    assert is_refused(await server.form(TOKEN, CREDENTIALS, basic("runner")))
    assert (await server.get("/api/auth/whoami", token)).body["code"] == "session-ended"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
