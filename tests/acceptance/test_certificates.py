"""A person with a certificate and a running service, by the commands of the how-to page."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spinor import credentials
from spinor.client import Client
from spinor.identity.delegation.client import assertion_login
from spinor.identity.models import WhoAmI
from spinor.x509.chain import verify_chain
from spinor.x509.proxy import read_credential
from spinor.x509.trust import TrustStore
from tests.acceptance.conftest import SPINOR, Service, start_service
from tests.acceptance.test_docs import ROOT, commands, matches
from tests.x509.pki import NOW, Pki, make_pki, write_host

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Service, Pki, Path]]:
    """A service that trusts a test PKI, and Ada's home, as root or whoever runs this."""
    work = Path(tempfile.mkdtemp(prefix="spinor-acceptance-"))
    work.chmod(0o711)
    service = start_service(work)
    try:
        pki = make_pki(work / "pki")
        trusted = work / "data" / "x509" / "certificates"
        trusted.mkdir(parents=True, exist_ok=True)
        shutil.copytree(pki.certificates, trusted, dirs_exist_ok=True)
        write_host(work / "home" / ".globus", pki.ada, "user")
        service.environ |= {"HOME": str(work / "home"), "X509_USER_PROXY": str(work / "proxy")}
        service.environ |= {"X509_CERT_DIR": str(pki.certificates)}
        yield service, pki, work
    finally:
        service.run("down")
        shutil.rmtree(work, ignore_errors=True)


def test_a_persons_day(place: tuple[Service, Pki, Path]) -> None:
    service, pki, work = place
    proxy, trust = work / "proxy", TrustStore(pki.certificates)
    assert "until" in service.ok("proxy", "init", "--hours", "2").err
    assert proxy.stat().st_mode & 0o777 == 0o600
    assert json.loads(service.ok("proxy", "info", "--json").out)["verified"] == "yes"
    # The certificate is unknown to the service until it is linked.
    server = credentials.Server(ca_file=str(work / "data" / "tls" / "ca.pem"))
    with Client(service.url, server) as client, pytest.raises(Exception, match="not linked"):
        assertion_login(client, proxy=proxy)
    assert "is linked to" in service.ok("proxy", "link").err
    with Client(service.url, server) as client:
        answer = assertion_login(client, proxy=proxy, group="demo_users")
    with Client(service.url, server, answer.access_token) as client:
        assert client.get("/api/auth/whoami", WhoAmI).group == "demo_users"
    # Delegation.
    (proxy_id,) = service.ok("proxy", "upload", "--days", "20").lines
    assert service.ok("proxy", "list", "-q").lines == [proxy_id]
    (stored,) = service.ok("proxy", "list", "--json").models
    assert stored["subject"] == "/DC=test/DC=grid/CN=Ada Lovelace"
    service.ok("proxy", "destroy")
    assert not proxy.exists()
    service.ok("proxy", "download", "--hours", "6")
    chain = verify_chain(read_credential(proxy).chain, trust, NOW)
    assert (chain.proxy_depth, chain.is_limited) == (2, True)
    denied = service.run("proxy", "download", "--full")
    assert denied.code == 4
    assert "full_proxy" in denied.err
    service.ok("proxy", "new", "--out", str(work / "second"))
    assert verify_chain(read_credential(work / "second").chain, trust, NOW).is_limited
    assert service.ok("proxy", "remove", proxy_id).lines == [proxy_id]
    assert service.run("proxy", "remove", proxy_id).code == 3
    nothing = service.run("proxy", "new")
    assert (nothing.code, "online CA is off" in nothing.err) == (3, True)


def test_the_online_ca(place: tuple[Service, Pki, Path]) -> None:
    service, _, work = place
    document = service.ok("config", "show").out + "\nonline_ca: {enabled: true}\n"
    (work / "operations.yaml").write_text(document)
    service.ok("config", "apply", str(work / "operations.yaml"))
    service.ok("proxy", "new", "--hours", "12", "--out", str(work / "third"))
    told = json.loads(service.ok("proxy", "info", str(work / "third"), "--json").out)
    assert told["type"] == "RFC 3820 proxy, limited"
    assert "/OU=People/CN=" in told["identity"]
    ca = work / "data" / "x509" / "online-ca" / "ca.pem"
    assert ca.stat().st_mode & 0o777 == 0o600
    log = "".join(path.read_text() for path in (work / "data" / "logs").glob("*.log"))
    assert "PRIVATE KEY" not in log


def test_the_page_is_true(place: tuple[Service, Pki, Path]) -> None:
    """Every command of the how-to page, as it stands there."""
    service, _, work = place
    (work / "home-of-page").mkdir()
    shutil.copytree(work / "home" / ".globus", work / "home-of-page" / ".globus")
    environ = {
        **service.environ,
        "PATH": f"{Path(SPINOR).parent}:{service.environ['PATH']}",
        "HOME": str(work / "home-of-page"),
        "BEARER_TOKEN_FILE": str(work / "token-of-page"),
    }
    shutil.copy(work / "token", work / "token-of-page")
    can_sign_in = "--proxy" in service.ok("login", "--help").out
    ran = commands((ROOT / "docs" / "how-to" / "sign-in-with-a-certificate.md").read_text())
    assert len(ran) >= 7
    for command, expected in ran:
        if command.startswith("spinor login") and not can_sign_in:
            continue
        done = subprocess.run(
            ["bash", "-c", command], env=environ, cwd=work, capture_output=True, text=True, timeout=120, check=False
        )
        shown = done.stdout + done.stderr
        assert matches(expected, shown), f"$ {command}\nexpected:\n{expected}\nfound ({done.returncode}):\n{shown}"
