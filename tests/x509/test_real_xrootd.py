"""A real XRootD storage admits the proxies that are made here, over root:// and https://, and refuses forged ones.

What it accepts although RFC 3820 forbids it is written down here too: these are the rules that we check ourselves.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from spinor.x509.chain import verify_chain
from spinor.x509.proxy import Credential, make_proxy, read_credential, write_credential
from spinor.x509.proxy_rules import Language
from spinor.x509.refusals import CredentialRefused
from spinor.x509.trust import TrustStore
from spinor.x509.voms import make_attributes, with_attributes
from tests.servers.authority import Authority
from tests.servers.authority import Credential as Files
from tests.servers.process import ServerFailed, workplace
from tests.servers.xrootd import Admission, XRootDServer, xrootd_server
from tests.x509.pki import curve_key, forged_proxy

pytestmark = [pytest.mark.peer("xrootd"), pytest.mark.acceptance]
HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(microsecond=0)
BYTES = b"42 photons"


@pytest.fixture(scope="module")
def ada(authority: Authority) -> Files:
    return authority.user("Gsi Ada")


@pytest.fixture(scope="module")
def voms_host(authority: Authority) -> Credential:
    files = authority.host("voms.spinor.test")
    return read_credential(files.certificate, files.key)


@pytest.fixture(scope="module")
def vomsdir(authority: Authority, voms_host: Credential) -> Iterator[Path]:
    with workplace("vomsdir") as place:
        (place / "ourvo").mkdir()
        lsc = f"/DC=test/DC=spinor/OU=Hosts/CN=voms.spinor.test\n{authority.dn}\n"
        (place / "ourvo" / "voms.spinor.test.lsc").write_text(lsc)
        yield place


@pytest.fixture(scope="module")
def storage(authority: Authority, ada: Files, vomsdir: Path) -> Iterator[XRootDServer]:
    """Ada may do anything in /store/ada, the group /ourvo in /store/ourvo."""
    rules = ["u ada /store/ada a", "g /ourvo /store/ourvo a"]
    with xrootd_server(authority, Admission(accounts={ada.dn: "ada"}, rules=rules), vomsdir=vomsdir) as server:
        for name in ("ada", "ourvo"):
            (server.store / name).mkdir()
            (server.store / name).chmod(0o777)
        yield server


@pytest.fixture(scope="module")
def own(ada: Files) -> Credential:
    return read_credential(ada.certificate, ada.key)


def admitted(storage: XRootDServer, proxy: Credential, place: Path, directory: str) -> tuple[bool, bool]:
    """Whether it may write there by root://, and by https://."""
    path, source = place / "proxy", place / "source"
    write_credential(path, proxy)
    source.write_bytes(BYTES)
    serial = proxy.leaf.serial_number
    try:
        storage.client("xrdcp", "--nopbar", str(source), f"{storage.root}//store/{directory}/{serial}-gsi", proxy=path)
        by_root = True
    except ServerFailed:
        by_root = False
    try:
        with storage.http(proxy=path) as http:
            by_https = http.put(f"/store/{directory}/{serial}-https", content=BYTES).status_code in (200, 201)
    except httpx.TransportError:
        by_https = False
    return by_root, by_https


def code(proxy: Credential, authority: Authority) -> str:
    try:
        verify_chain(proxy.chain, TrustStore(authority.directory), datetime.now(UTC))
    except CredentialRefused as error:
        return error.code
    return "accepted"


def test_our_proxies_are_admitted(storage: XRootDServer, own: Credential, authority: Authority, tmp_path: Path) -> None:
    full = make_proxy(own, lifetime=HOUR, now=NOW)
    limited = make_proxy(own, lifetime=HOUR, limited=True, now=NOW)
    second = make_proxy(full, lifetime=HOUR, limited=True, path_length=0, now=NOW)
    for proxy in (full, limited, second):
        assert code(proxy, authority) == "accepted"
        assert admitted(storage, proxy, tmp_path, "ada") == (True, True)
        assert (storage.store / "ada" / f"{proxy.leaf.serial_number}-gsi").read_bytes() == BYTES
    assert admitted(storage, full, tmp_path, "ourvo") == (False, False)  # She is not in the VO.


def test_our_attributes_are_believed_and_forged_ones_are_not(
    storage: XRootDServer, own: Credential, voms_host: Credential, authority: Authority, tmp_path: Path
) -> None:
    def proxy(signer: Credential, holder: Credential) -> Credential:
        der = make_attributes(
            "ourvo", ["/ourvo"], holder.leaf, signer, uri="voms.spinor.test:1", lifetime=HOUR, now=NOW
        )
        return make_proxy(own, lifetime=HOUR, extensions=[with_attributes(der)], now=NOW)

    assert admitted(storage, proxy(voms_host, own), tmp_path, "ourvo") == (True, True)
    assert admitted(storage, proxy(own, own), tmp_path, "ourvo") == (False, False)
    alan = authority.user("Gsi Alan")
    stolen = proxy(voms_host, read_credential(alan.certificate, alan.key))
    assert admitted(storage, stolen, tmp_path, "ourvo") == (False, False)


def test_a_proxy_of_another_key_is_refused(
    storage: XRootDServer, own: Credential, authority: Authority, tmp_path: Path
) -> None:
    forged = forged_proxy(own, signer=curve_key(9), end=NOW + HOUR)
    assert code(forged, authority) == "chain-signature"
    assert admitted(storage, forged, tmp_path, "ada") == (False, False)


def test_what_the_storage_forgets_we_refuse(
    storage: XRootDServer, own: Credential, authority: Authority, tmp_path: Path
) -> None:
    limited = make_proxy(own, lifetime=HOUR, limited=True, now=NOW)
    full_again = forged_proxy(limited, language=Language.INHERIT_ALL, end=NOW + HOUR)
    outliving = forged_proxy(own, end=own.not_after + HOUR)
    assert code(full_again, authority) == "proxy-limit-dropped"
    assert code(outliving, authority) == "proxy-outlives-issuer"
    # XRootD 5.5, like OpenSSL, admits both: whoever hands proxies on must look at these rules, and Spinor does.
    assert admitted(storage, full_again, tmp_path, "ada") == (True, True)
    assert admitted(storage, outliving, tmp_path, "ada") == (True, True)
