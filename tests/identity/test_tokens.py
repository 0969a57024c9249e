"""Access tokens: what the one verifier accepts, and everything that it must not."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from spinor.identity import service
from spinor.identity.keys import KeyRefused, KeyRing, NoKeys
from spinor.identity.tokens import TokenRefused, mint, read_token

ISSUER = "https://spinor.example.org"
NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return KeyRing.create(tmp_path_factory.mktemp("keys"))


def full_claims(**changes: Any) -> dict[str, Any]:
    claims = {
        "iss": ISSUER, "aud": ISSUER, "sub": "7d8f3a1e-0000-4000-8000-000000000001", "exp": NOW + 1200, "iat": NOW,
        "jti": "j", "client_id": "spinor-cli", "vo": "astro", "group": "astro_users", "scope": "self:read",
    }  # fmt: skip
    claims.update(changes)
    return {name: value for name, value in claims.items() if value is not None}


def signed(keys: KeyRing, header: dict[str, Any] | None = None, key: Any = None, **changes: Any) -> str:
    """A token as `mint` makes it, but for the changes; None removes a claim or a header."""
    full = {"alg": "ES256", "typ": "at+jwt", "kid": keys.signer.kid, **(header or {})}
    full = {name: value for name, value in full.items() if value is not None}
    algorithms = [full["alg"]]
    registry = jws.JWSRegistry(algorithms=algorithms, strict_check_header=False)
    return jws.serialize_compact(
        full, json.dumps(full_claims(**changes)), key or keys.signer.key, algorithms=algorithms, registry=registry
    )


def b64(data: Any) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def refusal(keys: KeyRing, token: str, now: float = NOW) -> TokenRefused:
    with pytest.raises(TokenRefused) as caught:
        read_token(keys, ISSUER, token, now)
    assert caught.value.status == 401
    assert token not in caught.value.message or len(token) < 5
    return caught.value


def test_a_minted_token_is_read_back(keys: KeyRing) -> None:
    claims = read_token(keys, ISSUER, mint(keys, ISSUER, {"sub": "s", "vo": "v", "client_id": "c"}, now=NOW), NOW)
    assert (claims.sub, claims.vo, claims.exp - claims.iat) == ("s", "v", 1200)


def test_a_minted_token_is_an_rfc_9068_token_with_a_wlcg_version(keys: KeyRing) -> None:
    header, payload, _ = mint(keys, ISSUER, {"sub": "s", "vo": "v", "client_id": "c"}).split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {
        "alg": "ES256", "typ": "at+jwt", "kid": keys.signer.kid,
    }  # fmt: skip
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert claims["wlcg.ver"] == "1.0"
    assert {"iss", "aud", "sub", "exp", "iat", "jti", "client_id"} <= claims.keys()


def test_every_signing_key_verifies(keys: KeyRing) -> None:
    for kid, key in keys.by_kid.items():
        token = signed(keys, {"alg": key.algorithm, "kid": kid}, key.key)
        assert read_token(keys, ISSUER, token, NOW).jti == "j"


def test_an_audience_in_a_list_is_found(keys: KeyRing) -> None:
    assert read_token(keys, ISSUER, signed(keys, aud=["https://other", ISSUER]), NOW)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exp": NOW - 61}, "token-expired"),
        ({"exp": -1}, "token-expired"),
        ({"iat": NOW + 61}, "token-not-yet-valid"),
        ({"nbf": NOW + 61}, "token-not-yet-valid"),
        ({"iss": "https://evil.example.org"}, "token-wrong-issuer"),
        ({"iss": ISSUER + "/"}, "token-wrong-issuer"),
        ({"aud": "https://other.example.org"}, "token-wrong-audience"),
        ({"aud": ISSUER.upper()}, "token-wrong-audience"),
        ({"aud": []}, "token-wrong-audience"),
        ({"aud": ISSUER + ".evil.org"}, "token-wrong-audience"),
        ({"exp": "never"}, "token-malformed"),
        ({"exp": True}, "token-malformed"),
        ({"sub": 17}, "token-malformed"),
        ({"sub": ""}, "token-claim-missing"),
        ({"jti": ""}, "token-claim-missing"),
        ({"scope": ["self:read"]}, "token-malformed"),
        *(
            ({name: None}, "token-claim-missing")
            for name in ("iss", "aud", "sub", "exp", "iat", "jti", "vo", "client_id")
        ),
    ],
)
def test_claims_that_do_not_hold(keys: KeyRing, changes: dict[str, Any], code: str) -> None:
    assert refusal(keys, signed(keys, **changes)).code == code


def test_a_missing_claim_is_named(keys: KeyRing) -> None:
    assert "'exp'" in refusal(keys, signed(keys, exp=None)).message


@pytest.mark.parametrize("changes", [{"exp": NOW - 59}, {"iat": NOW + 59}, {"nbf": NOW + 59}])
def test_clocks_may_differ_by_a_minute(keys: KeyRing, changes: dict[str, Any]) -> None:
    assert read_token(keys, ISSUER, signed(keys, **changes), NOW)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"typ": "JWT"}, "token-wrong-type"),
        ({"typ": None}, "token-wrong-type"),
        ({"typ": "rt+jwt"}, "token-wrong-type"),
        ({"kid": None}, "token-unknown-key"),
        ({"kid": "nobody"}, "token-unknown-key"),
        ({"kid": "../../etc/passwd"}, "token-unknown-key"),
        ({"kid": "' OR 1=1 --"}, "token-unknown-key"),
        ({"jku": "https://evil.example.org/jwks"}, "token-malformed"),
        ({"x5u": "https://evil.example.org/cert"}, "token-malformed"),
        ({"jwk": {"kty": "EC"}}, "token-malformed"),
    ],
)
def test_headers_that_are_not_ours(keys: KeyRing, header: dict[str, Any], code: str) -> None:
    token = signed(keys)
    full = {"alg": "ES256", "typ": "at+jwt", "kid": keys.signer.kid, **header}
    forged = ".".join([b64({k: v for k, v in full.items() if v is not None}), *token.split(".")[1:]])
    assert refusal(keys, forged).code == code


def test_critical_extensions_are_refused_even_when_correctly_signed(keys: KeyRing) -> None:
    header = {"alg": "ES256", "typ": "at+jwt", "kid": keys.signer.kid, "crit": ["b64"], "b64": True}
    signing_input = f"{b64(header)}.{b64(full_claims())}"
    model = jws.JWSRegistry(algorithms=["ES256"]).get_alg("ES256")
    signature = model.sign(signing_input.encode(), keys.signer.key)
    assert "crit" in refusal(keys, f"{signing_input}.{b64(signature)}").message


@pytest.mark.parametrize(
    "name", ["none", "None", "NONE", "HS256", "HS512", "RS256", "PS256", "ES384", "EdDSA", "", None, 7]
)
def test_no_other_algorithm_passes_for_the_key(keys: KeyRing, name: Any) -> None:
    header = {"alg": name, "typ": "at+jwt", "kid": keys.signer.kid}
    for signature in ("", signed(keys).rsplit(".", 1)[1]):
        assert refusal(keys, f"{b64(header)}.{b64(full_claims())}.{signature}").code == "token-wrong-algorithm"


def test_a_public_key_is_no_shared_secret(keys: KeyRing) -> None:
    """The oldest confusion: HS256 over the published key."""
    for key in keys.by_kid.values():
        assert not isinstance(key.key, OctKey)
        for secret in (key.key.as_pem(private=False), json.dumps(key.key.as_dict(private=False)).encode()):
            signing_input = f"{b64({'alg': 'HS256', 'typ': 'at+jwt', 'kid': key.kid})}.{b64(full_claims())}"
            forged = f"{signing_input}.{b64(hmac.digest(secret, signing_input.encode(), 'sha256'))}"
            assert refusal(keys, forged).code == "token-wrong-algorithm"


PAYLOAD = "payload:17.1"


def test_only_a_payload_s_token_is_signed_with_the_secret_key(keys: KeyRing) -> None:
    """Whoever else came by such a signature, it opens nothing else; and no other key speaks for a payload."""
    token = mint(keys, ISSUER, {"sub": PAYLOAD, "vo": "v", "client_id": "c"}, now=NOW)
    assert read_token(keys, ISSUER, token, NOW).sub == PAYLOAD
    secret = keys.payload_signer
    header = {"alg": "HS256", "kid": secret.kid}
    assert read_token(keys, ISSUER, signed(keys, header, secret.key, sub=PAYLOAD), NOW).sub == PAYLOAD
    assert refusal(keys, signed(keys, header, secret.key)).code == "token-wrong-algorithm"
    assert refusal(keys, signed(keys, sub=PAYLOAD)).code == "token-wrong-algorithm"
    assert refusal(keys, signed(keys, header, OctKey.generate_key(256), sub=PAYLOAD)).code == "token-bad-signature"


def test_the_secret_key_of_payloads_is_not_published(keys: KeyRing) -> None:
    published = json.dumps(keys.jwks())
    assert keys.payload_signer.kid not in published
    assert '"oct"' not in published


def test_a_key_of_somebody_else_under_our_name(keys: KeyRing) -> None:
    theirs = ECKey.generate_key("P-256")
    assert refusal(keys, signed(keys, None, theirs)).code == "token-bad-signature"
    rs_kid = next(kid for kid, key in keys.by_kid.items() if key.algorithm == "RS256")
    assert refusal(keys, signed(keys, {"alg": "RS256", "kid": rs_kid}, RSAKey.generate_key(2048))).code == (
        "token-bad-signature"
    )


@pytest.mark.parametrize(
    "token", ["", ".", "..", "...", "a.b", "a.b.c.d.e", "é.é.é", "e30.e30.", "bnVsbA.e30.x", "W10.e30.x"]
)
def test_what_is_no_token(keys: KeyRing, token: str) -> None:
    assert refusal(keys, token).code in {"token-malformed", "token-wrong-algorithm"}


def test_a_refresh_token_is_no_access_token(keys: KeyRing) -> None:
    assert refusal(keys, "spinor_rt_" + "x" * 43).code == "token-malformed"


def test_a_token_without_bounds_is_not_looked_at(keys: KeyRing) -> None:
    assert refusal(keys, signed(keys, filler="x" * 10_000)).code == "token-too-large"
    assert refusal(keys, "a" * 1_000_000).code == "token-too-large"


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_changed_token_holds(keys: KeyRing, data: st.DataObject) -> None:
    """Whatever byte of the decoded header, claims or signature is changed."""
    parts = [bytearray(base64.urlsafe_b64decode(part + "==")) for part in signed(keys).split(".")]
    part = parts[data.draw(st.integers(0, 2))]
    part[data.draw(st.integers(0, len(part) - 1))] ^= data.draw(st.integers(1, 255))
    refusal(keys, ".".join(b64(bytes(part)) for part in parts))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_no_text_breaks_the_verifier(keys: KeyRing, text: str) -> None:
    with pytest.raises(TokenRefused):
        read_token(keys, ISSUER, text, NOW)


def test_a_pilot_token_says_pilot_and_nothing_else(keys: KeyRing) -> None:
    token = service.mint_pilot_token(keys, ISSUER, "astro", 17, 3600)
    claims = read_token(keys, ISSUER, token, time.time())
    assert (claims.sub, claims.scope, claims.vo, claims.group) == ("pilot:17", "pilot:act", "astro", "")
    assert claims.exp - claims.iat == 3600


# ---------------------------------------------------------------------------------------------------- the keys


def test_keys_are_made_once_and_only_for_their_owner(tmp_path: Path) -> None:
    first, again = KeyRing.create(tmp_path / "k"), KeyRing.create(tmp_path / "k")
    assert first.by_kid.keys() == again.by_kid.keys()
    assert sorted(key.algorithm for key in first.by_kid.values()) == ["ES256", "RS256"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "k").iterdir()} == {0o600}


def test_the_published_keys_are_public(keys: KeyRing) -> None:
    published = keys.jwks()["keys"]
    assert {key["kid"] for key in published} == keys.by_kid.keys()
    for key in published:
        assert not key.keys() & {"d", "p", "q", "dp", "dq", "qi", "k"}
        assert key["use"] == "sig"
        assert key["alg"] in {"ES256", "RS256"}


def test_an_added_key_signs_and_the_older_still_verifies(tmp_path: Path) -> None:
    before = KeyRing.create(tmp_path)
    old = mint(before, ISSUER, {"sub": "s", "vo": "v", "client_id": "c"}, now=NOW)
    added = ECKey.generate_key("P-256", {"alg": "ES256"}, auto_kid=True)
    (tmp_path / "99991231T000000Z-es256-new.jwk").write_text(json.dumps(added.as_dict(private=True)))
    (tmp_path / "99991231T000000Z-es256-new.jwk").chmod(0o600)
    after = KeyRing.load(tmp_path)
    assert after.signer.kid == added.kid
    assert read_token(after, ISSUER, old, NOW)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    KeyRing.create(tmp_path)
    path = next(tmp_path.iterdir())
    path.chmod(0o640)
    with pytest.raises(KeyRefused, match="chmod 600"):
        KeyRing.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        lambda: json.dumps(RSAKey.generate_key(1024).as_dict(private=True)),
        lambda: json.dumps(ECKey.generate_key("P-384").as_dict(private=True)),
        lambda: json.dumps(ECKey.generate_key("P-256").as_dict(private=False)),
        lambda: "no key",
        lambda: "{}",
    ],
    ids=["small RSA", "other curve", "public half", "no JSON", "empty"],
)
@pytest.mark.filterwarnings("ignore")
def test_keys_that_do_not_do(tmp_path: Path, content: Callable[[], str]) -> None:
    KeyRing.create(tmp_path)
    bad = tmp_path / "20200101T000000Z-x-bad.jwk"
    bad.write_text(content())
    bad.chmod(0o600)
    with pytest.raises(KeyRefused) as caught:
        KeyRing.load(tmp_path)
    assert '"d"' not in caught.value.message


def test_no_keys_at_all_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(NoKeys, match="spinor bootstrap"):
        KeyRing.load(tmp_path)
