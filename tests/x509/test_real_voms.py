"""The real tools and the real server: what they make is accepted here, what is made here is accepted by them."""

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spinor.x509.chain import verify_chain
from spinor.x509.proxy import Credential, make_proxy, read_credential, write_credential
from spinor.x509.refusals import VomsIssuer, VomsRefused, VomsServerRefused, VomsServerUnreachable, VomsSignature
from spinor.x509.trust import TrustStore
from spinor.x509.voms import (
    Attributes,
    VomsServer,
    attribute_certificates,
    make_attributes,
    read_vomses,
    request_attributes,
    verify_attributes,
    with_attributes,
)
from tests.servers.authority import Authority
from tests.servers.authority import Credential as Files
from tests.servers.voms import VOMSServer
from tests.x509.pki import NOW, Pki, root_authority, write_host
from tests.x509.vomsapi import voms_error

pytestmark = [pytest.mark.peer("voms"), pytest.mark.acceptance]
HOUR = timedelta(hours=1)
SIGNATURE, VERIFY = 14, 17  # Of voms_api.h.


def environ(pki: Pki) -> dict[str, str]:
    known = {"X509_CERT_DIR": str(pki.certificates), "X509_VOMS_DIR": str(pki.vomsdir)}
    return {"PATH": os.environ["PATH"], "HOME": str(pki.home), **known}


def fake_proxy(pki: Pki, host: Credential, *options: str) -> Path:
    """What voms-proxy-fake makes of Ada's certificate and this host's key."""
    stem = f"fake-{host.leaf.serial_number % 10**6}"
    user_certificate, user_key = write_host(pki.home, pki.ada, "user")
    certificate, key = write_host(pki.home, host, stem)
    out = pki.home / f"{stem}.pem"
    subprocess.run(
        [
            "voms-proxy-fake", "-rfc", "-bits", "2048", "-cert", str(user_certificate), "-key", str(user_key),
            "-certdir", str(pki.certificates), "-hostcert", str(certificate), "-hostkey", str(key),
            "-voms", "testvo", "-uri", "voms.test:15001", "-out", str(out), *options,
        ],
        env=environ(pki), check=True, capture_output=True,
    )  # fmt: skip
    return out


def attributes_in(proxy: Credential, pki: Pki, trust: TrustStore, now: datetime) -> list[Attributes]:
    return verify_attributes(verify_chain(proxy.chain, trust, now), trust, pki.vomsdir, now)


def info(pki: Pki, proxy: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    argv = ["voms-proxy-info", "-file", str(proxy), *options]
    return subprocess.run(argv, env=environ(pki), check=False, capture_output=True, text=True)


def test_what_voms_proxy_fake_makes_is_accepted(pki: Pki, trust: TrustStore) -> None:
    fqans = ["-fqan", "/testvo/prod/Role=admin/Capability=NULL", "-fqan", "/testvo/Role=NULL/Capability=NULL"]
    proxy = read_credential(fake_proxy(pki, pki.voms_host, *fqans))
    now = datetime.now(UTC)
    (found,) = attributes_in(proxy, pki, trust, now)
    assert (found.vo, found.fqans, found.uri) == ("testvo", ("/testvo/prod/Role=admin", "/testvo"), "voms.test:15001")
    assert now < found.not_after <= now + 13 * HOUR


def test_what_a_forger_makes_with_voms_proxy_fake_is_refused(pki: Pki, trust: TrustStore) -> None:
    fqan = ["-fqan", "/testvo/Role=admin/Capability=NULL"]
    # Any certificate of a trusted authority will do for the forger, here Alan's.
    by_alan = read_credential(fake_proxy(pki, pki.alan, *fqan))
    with pytest.raises(VomsIssuer, match=r"no \.lsc file names it"):
        attributes_in(by_alan, pki, trust, datetime.now(UTC))
    # A host of the right name, by an authority of the forger.
    stranger = root_authority("DC=test,CN=Forger", number=3).host("voms.test", number=33)
    with pytest.raises(VomsIssuer, match="not among the trusted authorities"):
        attributes_in(read_credential(fake_proxy(pki, stranger, *fqan)), pki, trust, datetime.now(UTC))
    # The right certificate with another key.
    with pytest.raises(VomsSignature):
        host = Credential(pki.alan.chain, pki.alan.key)
        object.__setattr__(host, "chain", pki.voms_host.chain)
        attributes_in(read_credential(fake_proxy(pki, host, *fqan)), pki, trust, datetime.now(UTC))


def test_voms_proxy_info_accepts_our_attributes(pki: Pki, trust: TrustStore) -> None:
    der = make_attributes(
        "testvo", ["/testvo/Role=pilot", "/testvo", "/testvo/prod"], pki.ada.leaf, pki.voms_host,
        uri="voms.test:15001", lifetime=6 * HOUR, now=NOW,
    )  # fmt: skip
    proxy = make_proxy(pki.ada, lifetime=6 * HOUR, limited=True, extensions=[with_attributes(der)], now=NOW)
    path = pki.write_proxy(proxy, "ours")
    assert info(pki, path, "-exists", "-acexists", "testvo").returncode == 0
    assert info(pki, path, "-acexists", "other").returncode != 0
    full = ["/testvo/Role=pilot", "/testvo/Role=NULL", "/testvo/prod/Role=NULL"]
    assert info(pki, path, "-fqan").stdout.split() == [f"{each}/Capability=NULL" for each in full]
    everything = info(pki, path, "-all")
    assert everything.returncode == 0
    assert "verif" not in everything.stderr.lower(), everything.stderr
    assert "RFC compliant proxy" in everything.stdout
    assert "issuer    : /DC=test/DC=grid/CN=voms.test" in everything.stdout
    assert attributes_in(proxy, pki, trust, NOW)[0].fqans == ("/testvo/Role=pilot", "/testvo", "/testvo/prod")


def test_the_library_of_storages_and_we_judge_alike(pki: Pki, trust: TrustStore) -> None:
    def attributes(signer: Credential) -> bytes:
        return make_attributes(
            "testvo", ["/testvo/Role=pilot"], pki.ada.leaf, signer,
            uri="voms.test:1", lifetime=HOUR, now=datetime.now(UTC),
        )  # fmt: skip

    def judged(owner: Credential, der: bytes) -> tuple[int, str]:
        proxy = make_proxy(owner, lifetime=HOUR, extensions=[with_attributes(der)], now=NOW)
        theirs = voms_error(pki.write_proxy(proxy, "judged"), pki.certificates, pki.vomsdir)
        try:
            attributes_in(proxy, pki, trust, datetime.now(UTC))
        except VomsRefused as error:
            return theirs, error.code
        return theirs, "accepted"

    good = attributes(pki.voms_host)
    assert judged(pki.ada, good) == (0, "accepted")
    assert judged(pki.alan, good) == (VERIFY, "voms-holder")
    assert judged(pki.ada, attributes(pki.alan)) == (SIGNATURE, "voms-issuer")
    assert judged(pki.ada, good[:-1] + bytes([good[-1] ^ 1])) == (VERIFY, "voms-signature")


# ------------------------------------------------------------------------------ the real server


@pytest.fixture(scope="module")
def ada(authority: Authority, voms_server: VOMSServer) -> Files:
    """A member of the VO astro."""
    person = authority.user("X509 Ada")
    voms_server.add_member(person, "/astro/prod", "/astro/prod/Role=admin", "/astro/Role=pilot")
    return person


@pytest.fixture
def real_trust(authority: Authority) -> TrustStore:
    return TrustStore(authority.directory)


def server_of(voms_server: VOMSServer) -> VomsServer:
    (found,) = read_vomses(voms_server.vomses)
    return found


def test_what_voms_proxy_init_makes_is_accepted(ada: Files, voms_server: VOMSServer, real_trust: TrustStore) -> None:
    proxy = read_credential(voms_server.proxy(ada, voms="astro:/astro/prod/Role=admin"))
    now = datetime.now(UTC)
    chain = verify_chain(proxy.chain, real_trust, now)
    assert (chain.subject_dn, chain.proxy_depth, chain.is_limited) == (ada.dn, 1, False)
    (found,) = verify_attributes(chain, real_trust, voms_server.vomsdir, now)
    assert found.vo == "astro"
    assert found.fqans[0] == "/astro/prod/Role=admin"
    assert set(found.fqans) == {"/astro/prod/Role=admin", "/astro", "/astro/prod"}


@pytest.mark.parametrize("kind", ["certificate", "proxy"])
def test_the_server_gives_attributes(
    kind: str, ada: Files, voms_server: VOMSServer, real_trust: TrustStore, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    own = read_credential(ada.certificate, ada.key)
    credential = own if kind == "certificate" else make_proxy(own, lifetime=HOUR, now=now)
    fqans = ["/astro/Role=pilot", "/astro/prod/Role=admin"]
    der = request_attributes(server_of(voms_server), credential, fqans, HOUR, real_trust)
    proxy = make_proxy(credential, lifetime=HOUR, extensions=[with_attributes(der)], now=now)
    now = datetime.now(UTC)
    (found,) = verify_attributes(verify_chain(proxy.chain, real_trust, now), real_trust, voms_server.vomsdir, now)
    assert list(found.fqans[:2]) == fqans
    assert set(found.fqans) == {*fqans, "/astro", "/astro/prod"}
    assert found.not_after <= now + HOUR
    write_credential(tmp_path / "proxy", proxy)
    assert "attribute : /astro/Role=pilot/Capability=NULL" in voms_server.describe(tmp_path / "proxy")


def test_the_server_gives_all_groups_when_none_is_asked_for(
    ada: Files, voms_server: VOMSServer, real_trust: TrustStore
) -> None:
    own = read_credential(ada.certificate, ada.key)
    der = request_attributes(server_of(voms_server), own, [], HOUR, real_trust)
    now = datetime.now(UTC)
    proxy = make_proxy(own, lifetime=HOUR, extensions=[with_attributes(der)], now=now)
    (each,) = attribute_certificates(proxy.leaf)
    assert each.fqans == ("/astro/Role=NULL/Capability=NULL", "/astro/prod/Role=NULL/Capability=NULL")


def test_the_server_refuses(
    ada: Files, authority: Authority, voms_server: VOMSServer, real_trust: TrustStore, pki: Pki
) -> None:
    server = server_of(voms_server)
    own = read_credential(ada.certificate, ada.key)
    with pytest.raises(VomsServerRefused, match="Unable to satisfy"):
        request_attributes(server, own, ["/astro/Role=nobody"], HOUR, real_trust)
    stranger = authority.user("X509 Stranger")
    with pytest.raises(VomsServerRefused):
        request_attributes(server, read_credential(stranger.certificate, stranger.key), [], HOUR, real_trust)
    with pytest.raises(VomsServerUnreachable):
        request_attributes(server, pki.ada, [], HOUR, real_trust)  # Of an authority that the server does not know.


def test_the_server_must_be_the_one_of_vomses(
    ada: Files, voms_server: VOMSServer, real_trust: TrustStore, trust: TrustStore
) -> None:
    own = read_credential(ada.certificate, ada.key)
    real = server_of(voms_server)
    other = VomsServer(real.alias, real.host, real.port, "/DC=test/DC=grid/CN=other", real.vo)
    with pytest.raises(VomsServerUnreachable, match="and not /DC=test/DC=grid/CN=other"):
        request_attributes(other, own, [], HOUR, real_trust)
    with pytest.raises(VomsServerUnreachable, match="certificate verify failed"):
        request_attributes(real, own, [], HOUR, trust)
