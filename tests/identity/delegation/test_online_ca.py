"""The service's own authority: short certificates, proxies from them, revocation, and what sites install."""

from __future__ import annotations

import asyncio
import logging
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from spinor.chores import ChoreContext
from spinor.errors import SpinorError
from spinor.identity.delegation import service
from spinor.identity.delegation.certificates import Certificates
from spinor.identity.delegation.chores import CHORES
from spinor.identity.delegation.online_ca import OnlineCA, proposed_name
from spinor.x509.chain import verify_chain
from spinor.x509.proxy import Credential, make_request, parse_chain, parse_credential
from spinor.x509.refusals import ChainPolicy, ChainRevoked
from spinor.x509.trust import CRLPolicy, TrustStore
from spinor.x509.voms import verify_attributes
from tests.identity.delegation.conftest import DOCUMENT, Desk
from tests.identity.delegation.installing import install_authority
from tests.identity.workbench import ISSUER
from tests.x509.pki import curve_key, rsa_key

if TYPE_CHECKING:
    import httpx

HOST = "spinor.example.org"
CSR = {"csr": make_request(rsa_key(55)).public_bytes(Encoding.PEM).decode()}


async def install(desk: Desk, folder: Path) -> TrustStore:
    """What a site does that wants to trust this service, with nothing but what it publishes."""
    await install_authority(desk.http, folder)
    trust = TrustStore(folder)
    assert trust.problems == ()
    return trust


async def new(desk: Desk, token: str, **body: Any) -> httpx.Response:
    return await desk.ask(token, "POST", "/api/proxies/new", {"source": "online_ca", **body})


async def test_a_token_becomes_a_limited_proxy(desk: Desk, ada: str, tmp_path: Path) -> None:
    given = (await new(desk, ada)).json()
    credential = parse_credential(given["pem"].encode())
    trust = await install(desk, tmp_path / "site")
    chain = verify_chain(credential.chain, trust, datetime.now(UTC), CRLPolicy.REQUIRED)
    assert (chain.proxy_depth, chain.is_limited) == (1, True)
    assert chain.subject_dn.startswith("/DC=org/DC=example/DC=spinor/OU=People/CN=Ada Lovelace ")
    left = chain.not_after - datetime.now(UTC)
    assert timedelta(hours=11, minutes=58) < left <= timedelta(hours=12)
    kinds = await desk.rows("SELECT kind FROM identity.issued WHERE kind IN ('proxy', 'certificate') ORDER BY 1")
    assert kinds == [("certificate",), ("proxy",)]
    assert (await new(desk, ada, limited=False)).json()["code"] == "full-proxy-denied"


async def test_a_certificate_for_ones_own_request(desk: Desk, ada: str, ada_full: str, tmp_path: Path) -> None:
    # Whoever has a certificate makes full proxies of it.
    denied = await desk.ask(ada, "POST", "/api/x509/certificates", CSR)
    assert denied.json()["code"] == "full-proxy-denied"
    given = (await desk.ask(ada_full, "POST", "/api/x509/certificates", CSR)).json()
    assert "PRIVATE" not in given["pem"]
    certificate, ca = parse_chain(given["pem"].encode())
    trust = await install(desk, tmp_path / "site")
    chain = verify_chain([certificate], trust, datetime.now(UTC))
    assert certificate.public_key() == rsa_key(55).public_key()
    assert (chain.subject_dn, chain.issuer_dn) == (given["subject"], given["issuer"])
    assert ca.subject == certificate.issuer
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert certificate.not_valid_after_utc - datetime.now(UTC) <= timedelta(hours=12)
    longest = await desk.ask(ada_full, "POST", "/api/x509/certificates", {**CSR, "lifetime_s": 11 * 86400})
    assert longest.status_code == 200
    assert (
        await desk.ask(ada_full, "POST", "/api/x509/certificates", {**CSR, "lifetime_s": 11 * 86400 + 1})
    ).status_code == 422
    await desk.configure(DOCUMENT.replace("lifetime: 11d", "lifetime: 1h"))
    refused = await desk.ask(ada_full, "POST", "/api/x509/certificates", {**CSR, "lifetime_s": 3601})
    assert refused.json()["code"] == "lifetime-too-long"


async def test_a_name_is_kept_for_ever_and_never_given_again(desk: Desk, ada_full: str, alan: str) -> None:
    async def subject(token: str) -> str:
        return str((await desk.ask(token, "POST", "/api/x509/certificates", CSR)).json()["subject"])

    first = await subject(ada_full)
    await desk.configure(DOCUMENT.replace("full_name: Ada Lovelace", "full_name: Augusta King"))
    assert await subject(ada_full) == first
    assert await subject(alan) != first
    assert proposed_name("Zoë /CN=x=y Åström", "zoe").rsplit(" ", 1)[0] == "Zoe CN x y Astrom"
    assert proposed_name("王", "wang").startswith("wang ")


async def test_it_is_off_unless_the_operations_data_say_so(desk: Desk, ada_full: str) -> None:
    off = DOCUMENT.replace("enabled: true, lifetime: 11d", "enabled: false")
    await desk.configure(off.replace("sign_here: true", "sign_here: false"))
    assert (await new(desk, ada_full)).json()["code"] == "online-ca-off"
    assert (await new(desk, ada_full, source="any")).json()["code"] == "no-proxy-source"
    assert (await desk.ask(ada_full, "POST", "/api/x509/certificates", CSR)).json()["code"] == "online-ca-off"
    for path in ("ca.pem", "crl", "signing_policy", "namespaces", "lsc"):
        assert (await desk.http.get(f"/api/x509/{path}")).status_code == 404
    assert not desk.settings.online_ca_dir.exists()


async def test_the_key_is_a_file_of_its_own(desk: Desk, ada: str) -> None:
    await new(desk, ada, voms={})
    folder = desk.settings.online_ca_dir
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert files == {"ca.pem": 0o600, "attribute-authority.pem": 0o600}
    assert b"PRIVATE" in (folder / "ca.pem").read_bytes()
    assert b"PRIVATE" not in (await desk.http.get("/api/x509/ca.pem")).content


async def test_suspension_revokes(desk: Desk, ada: str, alan: str, tmp_path: Path) -> None:
    gone = parse_credential((await new(desk, alan)).json()["pem"].encode())
    stays = parse_credential((await new(desk, ada)).json()["pem"].encode())
    number = x509.load_der_x509_crl((await desk.http.get("/api/x509/crl")).content)
    assert not await service.renew_crl(desk.world.db, desk.parts)  # It is as good as new.
    await desk.rows(
        "INSERT INTO identity.suspension (user_id, reason, suspended_by)"
        " SELECT user_id, 'lost laptop', 'tests' FROM identity.user_account WHERE name = 'alan' RETURNING 1"
    )
    assert await service.renew_crl(desk.world.db, desk.parts)
    trust, now = await install(desk, tmp_path / "site"), datetime.now(UTC)
    with pytest.raises(ChainRevoked):
        verify_chain(gone.chain, trust, now)
    verify_chain(stays.chain, trust, now)
    crl = x509.load_der_x509_crl((await desk.http.get("/api/x509/crl")).content)
    numbers = [each.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for each in (number, crl)]
    assert numbers == [1, 2]
    # A list cannot take back what it said.
    await desk.rows("UPDATE identity.suspension SET lifted_at = now() RETURNING 1")
    await desk.rows("UPDATE identity.online_ca SET crl_signed_at = now() - interval '2 days' RETURNING 1")
    assert await service.renew_crl(desk.world.db, desk.parts)
    with pytest.raises(ChainRevoked):
        verify_chain(gone.chain, await install(desk, tmp_path / "site"), now)


async def test_its_policy_covers_its_people_only(desk: Desk, ada: str, tmp_path: Path) -> None:
    await new(desk, ada)
    trust = await install(desk, tmp_path / "site")
    ca = desk.parts.online_ca()
    assert ca is not None
    other = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    forged = ca._issue(rsa_key(55).public_key(), other, [], timedelta(hours=1), datetime.now(UTC))
    with pytest.raises(ChainPolicy):
        verify_chain([forged], trust, datetime.now(UTC))


async def test_a_site_believes_our_attributes_by_the_published_lsc(desk: Desk, ada_full: str, tmp_path: Path) -> None:
    given = (await new(desk, ada_full, voms={"fqans": ["/testvo/Role=full", "/testvo"]})).json()
    assert given["fqans"] == ["/testvo/Role=full", "/testvo"]
    trust = await install(desk, tmp_path / "site")
    lsc = tmp_path / "vomsdir" / "testvo" / f"{HOST}.lsc"
    lsc.parent.mkdir(parents=True)
    lsc.write_text((await desk.http.get("/api/x509/lsc")).text)
    now = datetime.now(UTC)
    chain = verify_chain(parse_chain(given["pem"].encode()), trust, now)
    (found,) = verify_attributes(chain, trust, tmp_path / "vomsdir", now)
    assert (found.vo, found.fqans) == ("testvo", ("/testvo/Role=full", "/testvo"))


async def test_our_own_certificates_do_not_sign_in(desk: Desk, ada_full: str) -> None:
    """A token becomes a proxy; were that the way back too, a sign-in would never end."""
    given = (await new(desk, ada_full, limited=False)).json()
    answer = await desk.sign_in(parse_credential(given["pem"].encode()))
    assert answer.json()["code"] == "chain-unknown-ca"


async def test_many_servers_make_one_authority(tmp_path: Path) -> None:
    def opened() -> OnlineCA:
        made = OnlineCA.open(tmp_path / "ca", ISSUER, HOST, datetime.now(UTC))
        assert made is not None
        return made

    found = await asyncio.gather(*(asyncio.to_thread(opened) for _ in range(6)))
    assert len({each.fingerprint for each in found}) == 1
    assert [path.name for path in (tmp_path / "ca").iterdir()] == ["ca.pem"]


async def test_another_directory_is_noticed(desk: Desk, ada: str) -> None:
    """A second machine that has not got the first one's directory must not become a second authority."""
    await new(desk, ada)
    (desk.settings.online_ca_dir / "ca.pem").rename(desk.settings.online_ca_dir / "elsewhere.pem")
    elsewhere = Certificates(desk.settings)
    with pytest.raises(SpinorError, match="copy the directory"):
        await service.published_ca(desk.world.db, elsewhere)
    assert not (desk.settings.online_ca_dir / "ca.pem").exists()


async def test_an_elliptic_key_does_as_well(desk: Desk, ada_full: str, tmp_path: Path) -> None:
    key = curve_key(5)
    csr = make_request(key).public_bytes(Encoding.PEM).decode()
    given = (await desk.ask(ada_full, "POST", "/api/x509/certificates", {"csr": csr})).json()
    certificate = parse_chain(given["pem"].encode())[0]
    Credential((certificate,), key)
    verify_chain([certificate], await install(desk, tmp_path / "site"), datetime.now(UTC))


async def test_the_chores_do_their_work(desk: Desk, ada: str, alan: str) -> None:
    context = ChoreContext(db=desk.world.db, settings=desk.settings, log=logging.getLogger("tests"))
    for each in CHORES:
        await each.run(context, {})
    assert not desk.settings.online_ca_dir.exists()  # Nobody has needed it yet.
    await new(desk, alan)
    await desk.rows(
        "INSERT INTO identity.suspension (user_id, reason, suspended_by)"
        " SELECT user_id, 'x', 'x' FROM identity.user_account WHERE name = 'alan' RETURNING 1"
    )
    for each in CHORES:
        await each.run(context, {})
    crl = x509.load_der_x509_crl((await desk.http.get("/api/x509/crl")).content)
    assert len(list(crl)) == 1
