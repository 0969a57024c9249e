"""Delegating a proxy to the service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import OctKey

from spinor.errors import SpinorError
from spinor.identity.delegation.models import REQUESTS_AT_MOST, STORED_AT_MOST
from spinor.identity.keys import KeyRing, write_private
from spinor.identity.sealed_columns import reseal_all
from spinor.identity.sealing import SealBroken
from spinor.x509.proxy import issue_proxy, make_proxy, sign_request
from spinor.x509.voms import make_attributes, with_attributes
from tests.identity.delegation.conftest import ADA, CA, Desk
from tests.identity.delegation.uploading import DAY, begin, pem_of, stored, upload
from tests.x509.pki import curve_key, forged_proxy, root_authority, rsa_key

if TYPE_CHECKING:
    from tests.x509.pki import Pki

HOUR = timedelta(hours=1)


async def test_a_proxy_is_stored_listed_and_removed(desk: Desk, pki: Pki, ada: str) -> None:
    answer = await upload(desk, ada, pki.ada)
    assert answer.status_code == 200, answer.text
    (found,) = (await desk.ask(ada, "GET", "/api/proxies")).json()
    assert found == answer.json()
    assert (found["subject"], found["issuer"], found["vo"], found["is_limited"]) == (ADA, CA, None, False)
    assert not found["ends_soon"]
    removed = (await desk.ask(ada, "POST", "/api/proxies/remove", {"ids": [found["proxy_id"]] * 2})).json()
    assert removed == {"done": [found["proxy_id"]], "refused": []}
    again = (await desk.ask(ada, "POST", "/api/proxies/remove", {"ids": [found["proxy_id"]]})).json()
    assert (again["done"], again["refused"][0]["code"]) == ([], "unknown-proxy")
    assert (await desk.ask(ada, "GET", "/api/proxies")).json() == []


@pytest.mark.parametrize(("kind", "expected"), [("rsa-2048", rsa.RSAPublicKey), ("ec-p256", ec.EllipticCurvePublicKey)])
async def test_the_key_is_made_here_as_asked(desk: Desk, ada: str, kind: str, expected: type) -> None:
    _, csr = await begin(desk, ada, key=kind)
    assert isinstance(csr.public_key(), expected)


async def test_the_key_is_sealed_for_its_row(desk: Desk, pki: Pki, ada: str) -> None:
    await stored(desk, ada, pki.ada)
    ((sealed, key_id, user_id),) = await desk.rows("SELECT sealed_key, key_id, user_id FROM identity.proxy")
    key = desk.keys.seal.open(sealed, f"identity.proxy {key_id} of user {user_id}")
    assert key[:1] == b"\x30"  # DER, and it was nowhere to be seen:
    assert key[40:80] not in sealed
    for about in (f"identity.proxy {uuid4()} of user {user_id}", f"identity.proxy {key_id} of user {user_id + 1}"):
        with pytest.raises(SealBroken):
            desk.keys.seal.open(sealed, about)


async def test_a_key_is_sealed_again_with_a_newer_one(desk: Desk, pki: Pki, ada: str) -> None:
    proxy_id = await stored(desk, ada, pki.ada)
    await begin(desk, ada)
    newer = OctKey.generate_key(256, {"alg": "A256GCM", "use": "enc"}, auto_kid=True)
    path = desk.settings.keys_dir / f"99991231T000000Z-a256gcm-{'0' * 8}.jwk"
    write_private(path, msgspec.json.encode(newer.as_dict(private=True)))
    renewed = KeyRing.load(desk.settings.keys_dir)
    async with desk.world.db.transaction() as tx:
        done = await reseal_all(tx, renewed.seal)
    assert done["identity.proxy.sealed_key"] == done["identity.proxy_request.sealed_key"] == 1
    ((sealed, key_id, user_id),) = await desk.rows("SELECT sealed_key, key_id, user_id FROM identity.proxy")
    assert renewed.seal.open(sealed, f"identity.proxy {key_id} of user {user_id}")[:1] == b"\x30"
    with pytest.raises(SealBroken):
        desk.keys.seal.open(sealed, f"identity.proxy {key_id} of user {user_id}")
    assert proxy_id


async def test_a_renewal_takes_the_place_of_the_former(desk: Desk, pki: Pki, ada: str) -> None:
    first = await stored(desk, ada, pki.ada, lifetime=2 * DAY)
    (before,) = await desk.rows("SELECT sealed_key FROM identity.proxy")
    assert await stored(desk, ada, pki.ada, lifetime=20 * DAY) == first
    (after,) = await desk.rows("SELECT sealed_key FROM identity.proxy")
    assert before != after
    # For one VO it is another one.
    assert await stored(desk, ada, pki.ada, said={"only_this_vo": True}) != first
    assert len((await desk.ask(ada, "GET", "/api/proxies")).json()) == 2
    assert not await desk.rows("SELECT FROM identity.proxy_request")


async def test_a_refused_renewal_leaves_the_former(desk: Desk, pki: Pki, ada: str) -> None:
    await stored(desk, ada, pki.ada)
    before = await desk.rows("SELECT * FROM identity.proxy")
    assert (await upload(desk, ada, pki.ada, limited=True)).status_code == 422
    assert await desk.rows("SELECT * FROM identity.proxy") == before


async def test_nobody_sees_or_uses_anothers_proxy(desk: Desk, pki: Pki, ada: str, alan: str) -> None:
    proxy_id = await stored(desk, ada, pki.ada)
    request_id, csr = await begin(desk, ada)
    bea = await desk.token("bea", "bio", "bio_users")
    leaf = sign_request(csr, pki.ada.chain, pki.ada.key, lifetime=HOUR, now=datetime.now(UTC))
    for other in (alan, bea):
        assert (await desk.ask(other, "GET", "/api/proxies")).json() == []
        got = await desk.ask(other, "POST", f"/api/proxies/{proxy_id}/delegate", {})
        unknown = await desk.ask(other, "POST", f"/api/proxies/{uuid4()}/delegate", {})
        assert (got.status_code, got.json()["detail"]) == (404, unknown.json()["detail"])
        removed = (await desk.ask(other, "POST", "/api/proxies/remove", {"ids": [proxy_id]})).json()
        assert removed["done"] == []
        body = {"chain": pem_of(leaf, *pki.ada.chain)}
        assert (await desk.ask(other, "PUT", f"/api/proxies/requests/{request_id}", body)).status_code == 404
    assert len((await desk.ask(ada, "GET", "/api/proxies")).json()) == 1


async def test_a_proxy_for_one_vo_is_not_there_in_another(desk: Desk, pki: Pki, ada_full: str) -> None:
    bound = await stored(desk, ada_full, pki.ada, said={"only_this_vo": True})
    in_bio = await desk.token("ada", "bio", "bio_users")
    assert (await desk.ask(in_bio, "GET", "/api/proxies")).json() == []
    assert (await desk.ask(in_bio, "POST", f"/api/proxies/{bound}/delegate", {})).status_code == 404
    assert (await desk.ask(in_bio, "POST", "/api/proxies/remove", {"ids": [bound]})).json()["done"] == []
    free = await stored(desk, ada_full, pki.ada)
    assert (await desk.ask(in_bio, "POST", f"/api/proxies/{free}/delegate", {})).status_code == 200


async def refused(desk: Desk, token: str, *answer: Any, **options: Any) -> str:
    got = await upload(desk, token, *answer, **options)
    assert got.status_code in (403, 422), got.text
    return str(got.json().get("rule", got.json()["code"]))


async def test_what_is_not_stored(desk: Desk, pki: Pki, ada: str, alan: str) -> None:
    assert await refused(desk, alan, pki.ada) == "not-your-certificate"
    assert await refused(desk, ada, pki.alan) == "not-your-certificate"
    assert await refused(desk, ada, root_authority("DC=test,CN=Forger", number=3).user()) == "chain-unknown-ca"
    assert await refused(desk, ada, forged_proxy(pki.ada, signer=curve_key(9))) == "chain-signature"
    limited = make_proxy(pki.ada, lifetime=DAY, limited=True, now=datetime.now(UTC))
    assert await refused(desk, ada, limited) == "proxy-rejected"
    assert await refused(desk, ada, pki.ada, limited=True) == "proxy-rejected"
    assert (await upload(desk, ada, pki.ada, limited=True, said={"limited": True})).json()["is_limited"]
    assert await refused(desk, ada, pki.ada, lifetime=timedelta(minutes=5)) == "proxy-rejected"
    assert await refused(desk, ada, pki.ada, path_length=0) == "proxy-rejected"
    outliving = forged_proxy(pki.ada, end=pki.ada.not_after + DAY)
    assert await refused(desk, ada, outliving) == "proxy-outlives-issuer"


async def test_a_proxy_with_attributes_is_not_stored(desk: Desk, pki: Pki, ada: str) -> None:
    """Its attributes would be in each proxy that is made from it, in whichever group that is."""
    now = datetime.now(UTC)
    der = make_attributes(
        "testvo", ["/testvo/Role=production"], pki.ada.leaf, pki.voms_host, uri="voms.test:1", lifetime=HOUR, now=now
    )
    own = make_proxy(pki.ada, lifetime=DAY, extensions=[with_attributes(der)], now=now)
    assert await refused(desk, ada, own) == "proxy-rejected"


async def test_tampered_chains(desk: Desk, pki: Pki, ada: str) -> None:
    request_id, csr = await begin(desk, ada)
    now = datetime.now(UTC)
    leaf = sign_request(csr, pki.ada.chain, pki.ada.key, lifetime=DAY, now=now)
    own_key = issue_proxy(pki.ada.chain, pki.ada.key, rsa_key(77).public_key(), lifetime=DAY, now=now)
    der = bytearray(leaf.public_bytes(Encoding.DER))
    der[-5] ^= 1
    import base64

    flipped = "-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(bytes(der)).decode() + "-----END CERTIFICATE-----\n"
    key = rsa_key(77).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for chain in (
        "", "x", key, pem_of(leaf), pem_of(*pki.ada.chain, leaf), pem_of(own_key, *pki.ada.chain),
        flipped + pem_of(*pki.ada.chain), pem_of(leaf, *pki.alan.chain), pem_of(*[leaf] * 30), "\x00" * 1000,
        "y" * 200_000,
    ):  # fmt: skip
        answer = await desk.ask(ada, "PUT", f"/api/proxies/requests/{request_id}", {"chain": chain})
        assert answer.status_code == 422, (chain[:60], answer.text)
        assert "PRIVATE" not in answer.text
    assert not await desk.rows("SELECT FROM identity.proxy")
    # The request is still good for the right answer, once.
    body = {"chain": pem_of(leaf, *pki.ada.chain)}
    assert (await desk.ask(ada, "PUT", f"/api/proxies/requests/{request_id}", body)).status_code == 200
    assert (await desk.ask(ada, "PUT", f"/api/proxies/requests/{request_id}", body)).status_code == 404


async def test_bounds(desk: Desk, pki: Pki, ada: str, ada_full: str) -> None:
    for _ in range(REQUESTS_AT_MOST):
        await begin(desk, ada, key="ec-p256")
    answer = await desk.ask(ada_full, "POST", "/api/proxies/requests", {})
    assert (answer.status_code, answer.json()["code"]) == (429, "too-many-proxy-requests")
    await desk.rows("UPDATE identity.proxy_request SET expires_at = now() RETURNING 1")
    await stored(desk, ada, pki.ada)
    await desk.rows(
        "INSERT INTO identity.proxy SELECT gen_random_uuid(), user_id, vo_id, subject_dn || n, issuer_dn, chain,"
        " key_id, sealed_key, is_limited, stored_at, renewed_at, expires_at"
        f" FROM identity.proxy, generate_series(2, {STORED_AT_MOST}) n RETURNING 1"
    )
    assert (await upload(desk, ada, pki.ada)).status_code == 200
    full = await upload(desk, ada, pki.ada, said={"only_this_vo": True})
    assert (full.status_code, full.json()["code"]) == (409, "too-many-proxies")


async def test_a_server_that_dies_half_way_leaves_nothing(desk: Desk, pki: Pki, ada: str) -> None:
    """Its database session ends, as after kill -9: the former proxy is whole, and the new one is not there."""
    from spinor.identity.delegation import store
    from spinor.identity.delegation.store import SealedProxy

    await stored(desk, ada, pki.ada)
    before = await desk.rows("SELECT * FROM identity.proxy")
    request_id, _ = await begin(desk, ada)
    caller = desk.world.ada
    new = SealedProxy(
        proxy_id=uuid4(), user_id=caller.user_id, chain="x", key_id=UUID(request_id), sealed_key=b"x",
        is_limited=True, expires_at=datetime.now(UTC) + DAY, subject=ADA, issuer=CA,
    )  # fmt: skip
    with pytest.raises(SpinorError):
        async with desk.world.db.transaction() as tx:
            assert await store.store_proxy(tx, caller, new, only_this_vo=False) is not None
            await desk.rows(f"SELECT pg_terminate_backend({tx.info.backend_pid})")
    assert await desk.rows("SELECT * FROM identity.proxy") == before
    assert len(await desk.rows("SELECT FROM identity.proxy_request")) == 1


async def test_what_has_expired_is_deleted_and_what_ends_soon_is_told_once(desk: Desk, pki: Pki, ada: str) -> None:
    from spinor.identity.delegation import service

    await stored(desk, ada, pki.ada, lifetime=3 * DAY)
    (found,) = (await desk.ask(ada, "GET", "/api/proxies")).json()
    assert found["ends_soon"]
    async with desk.world.db.transaction() as tx:
        assert await service.delete_ended(tx) == 0
        assert [(each.user, each.subject) for each in await service.remind_of_proxies(tx)] == [("ada", ADA)]
        assert await service.remind_of_proxies(tx) == []
    await desk.rows("UPDATE identity.proxy SET expires_at = now() RETURNING 1")
    assert (await desk.ask(ada, "GET", "/api/proxies")).json() == []
    assert (await desk.ask(ada, "POST", f"/api/proxies/{found['proxy_id']}/delegate", {})).status_code == 404
    async with desk.world.db.transaction() as tx:
        assert await service.delete_ended(tx) == 1
