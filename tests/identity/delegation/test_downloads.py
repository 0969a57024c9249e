"""Proxies that the service gives to their owners."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from spinor.identity.delegation.models import GIVEN_AT_MOST
from spinor.x509.chain import VerifiedChain, verify_chain
from spinor.x509.proxy import make_request, parse_chain, parse_credential
from spinor.x509.trust import TrustStore
from spinor.x509.voms import attribute_certificates
from tests.identity.delegation.conftest import ADA, CA, Desk
from tests.identity.delegation.uploading import DAY, stored
from tests.x509.pki import curve_key, rsa_key

if TYPE_CHECKING:
    import httpx

    from tests.x509.pki import Pki


async def delegate(desk: Desk, token: str, proxy_id: str, **body: Any) -> httpx.Response:
    return await desk.ask(token, "POST", f"/api/proxies/{proxy_id}/delegate", body)


def verified(pki: Pki, pem: str) -> VerifiedChain:
    return verify_chain(parse_chain(pem.encode()), TrustStore(pki.certificates), datetime.now(UTC))


@pytest.mark.parametrize("group", ["astro_users", "astro_full"])
@pytest.mark.parametrize("is_limited", [False, True], ids=["full", "limited"])
@pytest.mark.parametrize("asked", [False, True], ids=["ask-full", "ask-limited"])
async def test_the_delegation_matrix(desk: Desk, pki: Pki, group: str, *, is_limited: bool, asked: bool) -> None:
    token = await desk.token("ada", "astro", group)
    proxy_id = await stored(desk, token, pki.ada, limited=is_limited, said={"limited": is_limited})
    answer = await delegate(desk, token, proxy_id, limited=asked)
    if group == "astro_users" and not asked and not is_limited:
        assert (answer.status_code, answer.json()["code"]) == (403, "full-proxy-denied")
        assert not await desk.rows("SELECT FROM identity.issued WHERE kind = 'proxy'")
        return
    given = answer.json()
    assert given["is_limited"] == (asked or is_limited) == verified(pki, given["pem"]).is_limited
    ((facts,),) = await desk.rows("SELECT facts FROM identity.issued WHERE kind = 'proxy'")
    assert facts["limited"] == given["is_limited"]


async def test_for_a_request_of_ones_own_no_key_travels(desk: Desk, pki: Pki, ada: str) -> None:
    proxy_id = await stored(desk, ada, pki.ada)
    for key in (rsa_key(55), curve_key(5)):
        csr = make_request(key).public_bytes(Encoding.PEM).decode()
        given = (await delegate(desk, ada, proxy_id, csr=csr, lifetime_s=3600)).json()
        assert "PRIVATE" not in given["pem"]
        chain = verified(pki, given["pem"])
        assert (chain.subject_dn, chain.issuer_dn, chain.proxy_depth) == (ADA, CA, 2)
        assert chain.leaf.public_key() == key.public_key()
        left = chain.not_after - datetime.now(UTC)
        assert timedelta(minutes=58) < left <= timedelta(hours=1)


async def test_with_a_key_made_here(desk: Desk, pki: Pki, ada: str) -> None:
    proxy_id = await stored(desk, ada, pki.ada)
    given = (await delegate(desk, ada, proxy_id)).json()
    credential = parse_credential(given["pem"].encode())
    assert isinstance(credential.key, rsa.RSAPrivateKey)
    assert credential.pem().decode() == given["pem"]
    assert (given["identity"], given["issuer"], given["fqans"]) == (ADA, CA, [])
    # Neither the stored key nor this one is in the database in the clear.
    dump = str(await desk.rows("SELECT * FROM identity.proxy")) + str(await desk.rows("SELECT * FROM identity.issued"))
    assert "PRIVATE" not in dump


async def test_each_use_has_its_line(desk: Desk, pki: Pki, ada: str) -> None:
    proxy_id = await stored(desk, ada, pki.ada)
    given = (await delegate(desk, ada, proxy_id, lifetime_s=600, voms={})).json()
    ((name, facts, expires_at),) = await desk.rows(
        "SELECT name, facts, expires_at FROM identity.issued WHERE kind = 'proxy'"
    )
    serial = parse_chain(given["pem"].encode())[0].serial_number
    assert (name, facts["dn"], facts["lifetime_s"], facts["limited"], facts["fqans"], facts["group"]) == (
        f"{serial:x}", ADA, 600, True, ["/testvo"], "astro_users",
    )  # fmt: skip
    assert facts["proxy_id"] == proxy_id
    assert expires_at.isoformat()[:19] == given["expires_at"][:19]
    kinds = await desk.rows("SELECT kind, count(*) FROM identity.issued WHERE kind LIKE 'proxy%' GROUP BY 1 ORDER BY 1")
    assert kinds == [("proxy", 1), ("proxy_stored", 1)]


async def test_it_does_not_outlive_the_stored_one(desk: Desk, pki: Pki, ada: str) -> None:
    proxy_id = await stored(desk, ada, pki.ada, lifetime=timedelta(hours=2))
    too_long = await delegate(desk, ada, proxy_id, lifetime_s=7300)
    assert (too_long.status_code, too_long.json()["code"]) == (422, "proxy-too-short")
    assert 7100 < too_long.json()["left_s"] <= 7200
    assert (await delegate(desk, ada, proxy_id, lifetime_s=8 * 86400)).status_code == 422
    assert (await delegate(desk, ada, proxy_id, lifetime_s=0)).status_code == 422
    assert (await delegate(desk, ada, proxy_id, lifetime_s=7000)).status_code == 200


async def test_attributes_by_our_own_authority(desk: Desk, pki: Pki, ada: str, ada_full: str) -> None:
    proxy_id = await stored(desk, ada, pki.ada)
    given = (await delegate(desk, ada_full, proxy_id, voms={"vo": "testvo", "fqans": ["/testvo/Role=full"]})).json()
    leaf = parse_chain(given["pem"].encode())[0]
    (found,) = attribute_certificates(leaf)
    assert found.fqans == ("/testvo/Role=full/Capability=NULL",)
    assert found.holder_serial == pki.ada.leaf.serial_number
    # What stands for a group is for that group alone.
    for token, fqan in ((ada, "/testvo/Role=full"), (ada_full, "/testvo/Role=production"), (ada, "/testvo/Role=x")):
        answer = await delegate(desk, token, proxy_id, voms={"fqans": [fqan]})
        assert (answer.status_code, answer.json()["code"]) == (403, "attributes-denied")
    in_bio = await desk.token("ada", "bio", "bio_users")
    assert (await delegate(desk, in_bio, proxy_id, voms={})).json()["code"] == "no-voms"
    assert (await delegate(desk, in_bio, proxy_id, voms={"vo": "astro"})).status_code == 403


async def test_bad_requests(desk: Desk, pki: Pki, ada: str) -> None:
    proxy_id = await stored(desk, ada, pki.ada)
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    requests = [
        "x", "-----BEGIN CERTIFICATE REQUEST-----\n\n-----END CERTIFICATE REQUEST-----\n",
        make_request(weak).public_bytes(Encoding.PEM).decode(), "z" * 20_000,
    ]  # fmt: skip
    for csr in requests:
        assert (await delegate(desk, ada, proxy_id, csr=csr)).status_code == 422
    for voms in ({"fqans": ["no"]}, {"fqans": ["/testvo\n"]}, {"fqans": ["/testvo"] * 40}, {"unknown": 1}):
        assert (await delegate(desk, ada, proxy_id, voms=voms)).status_code == 422
    assert not await desk.rows("SELECT FROM identity.issued WHERE kind = 'proxy'")


async def test_not_without_bound(desk: Desk, pki: Pki, ada: str, ada_full: str) -> None:
    proxy_id = await stored(desk, ada, pki.ada)
    await desk.rows(
        "INSERT INTO identity.issued (kind, user_id) SELECT 'proxy', user_id FROM identity.user_account,"
        f" generate_series(1, {GIVEN_AT_MOST}) WHERE name = 'ada' RETURNING 1"
    )
    for path, body in (
        (f"/api/proxies/{proxy_id}/delegate", {}), ("/api/proxies/new", {}),
        ("/api/x509/certificates", {"csr": make_request(curve_key(5)).public_bytes(Encoding.PEM).decode()}),
    ):  # fmt: skip
        answer = await desk.ask(ada_full, "POST", path, body)
        assert (answer.status_code, answer.json()["code"]) == (429, "too-many-proxies-given")


async def test_a_token_without_the_scope_gets_nothing(desk: Desk, pki: Pki, ada: str) -> None:
    proxy_id = await stored(desk, ada, pki.ada)
    admin = await desk.token("ada", "astro", "astro_admins")
    for method, path in (
        ("GET", "/api/proxies"),
        ("POST", f"/api/proxies/{proxy_id}/delegate"),
        ("POST", "/api/proxies/new"),
    ):
        assert (await desk.ask(admin, method, path, {})).status_code == 403


async def test_new_uses_the_stored_proxy_while_it_lasts(desk: Desk, pki: Pki, ada: str, ada_full: str) -> None:
    missing = await desk.ask(ada, "POST", "/api/proxies/new", {"source": "stored"})
    assert (missing.status_code, missing.json()["code"]) == (404, "no-proxy-source")
    await stored(desk, ada, pki.ada, lifetime=2 * DAY)
    given = (await desk.ask(ada, "POST", "/api/proxies/new", {})).json()
    assert (given["identity"], given["is_limited"]) == (ADA, True)
    left = verified(pki, given["pem"]).not_after - datetime.now(UTC)
    assert timedelta(hours=11, minutes=58) < left <= timedelta(hours=12)
    full = await desk.ask(ada, "POST", "/api/proxies/new", {"limited": False})
    assert full.json()["code"] == "full-proxy-denied"
    assert not (await desk.ask(ada_full, "POST", "/api/proxies/new", {"limited": False})).json()["is_limited"]
    assert (await desk.ask(ada, "POST", "/api/proxies/new", {"lifetime_s": 43201})).status_code == 422
    await desk.rows("UPDATE identity.proxy SET expires_at = now() + interval '1 hour' RETURNING 1")
    assert (await desk.ask(ada, "POST", "/api/proxies/new", {})).json()["identity"] != ADA
    short = await desk.ask(ada, "POST", "/api/proxies/new", {"source": "stored"})
    assert short.json()["code"] == "proxy-too-short"
