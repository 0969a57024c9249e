"""What the service gives, in the hands of voms-proxy-info, openssl, the VOMS server and an XRootD storage."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from click.testing import CliRunner

from spinor.identity.delegation.cli import proxy as proxy_command
from spinor.x509.proxy import Credential, parse_credential, read_credential, write_credential
from tests.identity.delegation.conftest import Desk, open_desk
from tests.identity.delegation.installing import install_authority
from tests.identity.delegation.uploading import stored
from tests.servers.authority import Authority, authority
from tests.servers.authority import Credential as Files
from tests.servers.process import ServerFailed
from tests.servers.voms import VOMSServer
from tests.servers.xrootd import Admission, XRootDServer, xrootd_server
from tests.x509.pki import curve_key, forged_proxy
from tests.x509.vomsapi import voms_error

if TYPE_CHECKING:
    from tests.conftest import World

pytestmark = [pytest.mark.peer("voms"), pytest.mark.acceptance]
BYTES = b"42 photons"
DOCUMENT = """
vos:
  astro:
    groups:
      astro_users: {{properties: [normal_user], members: [ada]}}
      astro_pilots: {{properties: [normal_user, full_proxy]}}
      astro_admins: {{properties: [configuration_administrator], members: [ada]}}
    voms:
      servers: [{{host: localhost, port: {port}, subject: "{host}"}}]
      groups: {{/astro/Role=pilot: astro_pilots}}
  bio:
    groups:
      bio_users: {{properties: [normal_user], members: [ada]}}
    voms: {{name: ourvo, sign_here: true}}
users:
  ada: {{full_name: Ada Lovelace, identities: [{{issuer: "{ca}", subject: "{ada}"}}]}}
online_ca: {{enabled: true}}
"""


@pytest.fixture(scope="module")
def person(authority: Authority, voms_server: VOMSServer) -> Files:
    """Ada, who is in the VO astro and has a role there."""
    files = authority.user("Delegating Ada")
    voms_server.add_member(files, "/astro/Role=pilot")
    return files


@pytest.fixture
async def real_desk(
    world: World, tmp_path: Path, authority: Authority, voms_server: VOMSServer, person: Files
) -> AsyncIterator[Desk]:
    document = DOCUMENT.format(port=voms_server.port, host=voms_server.host.dn, ca=authority.dn, ada=person.dn)
    folder = tmp_path / "service"
    async with open_desk(world, folder, authority.directory, voms_server.vomsdir, document) as desk:
        yield desk


def written(pem: str, path: Path) -> Path:
    write_credential(path, parse_credential(pem.encode()))
    return path


def verified_by_openssl(directory: Path, proxy: Path) -> str:
    """What OpenSSL says as strictly as it can."""
    argv = ["openssl", "verify", "-allow_proxy_certs", "-x509_strict", "-CApath", str(directory)]
    done = subprocess.run([*argv, "-untrusted", str(proxy), str(proxy)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def described(proxy: Path, known: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What voms-proxy-info says."""
    argv = ["voms-proxy-info", "-all", "-file", str(proxy)]
    environ = {"PATH": os.environ["PATH"], **known}
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)


async def test_a_downloaded_proxy_is_read_by_the_tools_of_voms(
    real_desk: Desk, voms_server: VOMSServer, person: Files, authority: Authority, tmp_path: Path
) -> None:
    desk, own = real_desk, read_credential(person.certificate, person.key)
    signed = await desk.sign_in(read_credential(voms_server.proxy(person, voms="astro:/astro/Role=pilot")))
    assert signed.status_code == 200, signed.text
    pilot = signed.json()["access_token"]
    assert (await desk.ask(pilot, "GET", "/api/auth/whoami")).json()["group"] == "astro_pilots"
    proxy_id = await stored(desk, pilot, own, lifetime=timedelta(days=20))
    answer = await desk.ask(
        pilot, "POST", f"/api/proxies/{proxy_id}/delegate",
        {"limited": False, "lifetime_s": 3600, "voms": {"fqans": ["/astro/Role=pilot"]}},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    proxy = written(answer.json()["pem"], tmp_path / "proxy")
    told = voms_server.describe(proxy)
    assert "attribute : /astro/Role=pilot/Capability=NULL" in told
    assert "RFC compliant proxy" in told
    assert f"identity  : {person.dn}" in told or person.dn in told
    assert verified_by_openssl(authority.directory, proxy).strip() == f"{proxy}: OK"
    # Another group does not get the role, although the person has it.
    user = await desk.token("ada", "astro", "astro_users")
    denied = await desk.ask(
        user, "POST", f"/api/proxies/{proxy_id}/delegate", {"voms": {"fqans": ["/astro/Role=pilot"]}}
    )
    assert denied.json()["code"] == "attributes-denied"
    plain = (await desk.ask(user, "POST", f"/api/proxies/{proxy_id}/delegate", {"voms": {}})).json()
    assert (plain["fqans"], plain["is_limited"]) == (["/astro"], True)
    assert "attribute : /astro/Role=NULL" in voms_server.describe(written(plain["pem"], tmp_path / "plain"))
    refused = await desk.ask(
        user, "POST", f"/api/proxies/{proxy_id}/delegate", {"voms": {"fqans": ["/astro/Role=nobody"]}}
    )
    assert (refused.status_code, refused.json()["code"]) == (403, "voms-server-refused")


def test_init_gets_attributes_as_voms_proxy_init_does(
    voms_server: VOMSServer, person: Files, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X509_CERT_DIR", str(authority.directory))
    monkeypatch.setenv("X509_VOMS_DIR", str(voms_server.vomsdir))
    monkeypatch.setenv("X509_VOMSES", str(voms_server.vomses))
    out = tmp_path / "made"
    words = ["init", "--cert", str(person.certificate), "--key", str(person.key), "--out", str(out), "--hours", "2"]
    done = CliRunner().invoke(proxy_command, [*words, "--voms", "astro:/astro/Role=pilot"])
    assert done.exit_code == 0, done.output
    assert "attribute : /astro/Role=pilot/Capability=NULL" in voms_server.describe(out)
    told = CliRunner().invoke(proxy_command, ["info", str(out)]).output
    assert "/astro/Role=pilot" in told
    assert "verified          yes" in told
    nobody = CliRunner().invoke(proxy_command, [*words, "--voms", "elsewhere"])
    assert "No vomses file names" in str(nobody.exception)


# ------------------------------------------------------------------------------ a storage


@pytest.fixture
def storage(authority: Authority, person: Files, voms_server: VOMSServer) -> Iterator[XRootDServer]:
    rules = ["u ada /store/ada a", "g /astro /store/astro a"]
    admission = Admission(accounts={person.dn: "ada"}, rules=rules)
    with xrootd_server(authority, admission, vomsdir=voms_server.vomsdir) as server:
        _prepare(server)
        yield server


def _prepare(server: XRootDServer) -> None:
    for name in ("ada", "astro", "ourvo"):
        (server.store / name).mkdir()
        (server.store / name).chmod(0o777)


def admitted(storage: XRootDServer, proxy: Path, directory: str) -> tuple[bool, bool]:
    """Whether it may write there by root://, and by https://."""
    source = proxy.with_suffix(".source")
    source.write_bytes(BYTES)
    try:
        target = f"{storage.root}//store/{directory}/{proxy.name}"
        storage.client("xrdcp", "-f", "--nopbar", str(source), target, proxy=proxy)
        by_root = True
    except ServerFailed:
        by_root = False
    try:
        with storage.http(proxy=proxy) as http:
            by_https = http.put(f"/store/{directory}/{proxy.name}-https", content=BYTES).status_code in (200, 201)
    except httpx.TransportError:
        by_https = False
    return by_root, by_https


def forgery(pem: str) -> Credential:
    """A proxy below this one, which another key has signed."""
    return forged_proxy(parse_credential(pem.encode()), signer=curve_key(9), end=datetime.now(UTC) + timedelta(hours=1))


@pytest.mark.peer("xrootd")
async def test_a_storage_admits_what_the_service_gives_and_refuses_a_forged_one(
    real_desk: Desk, person: Files, storage: XRootDServer, tmp_path: Path
) -> None:
    desk, own = real_desk, read_credential(person.certificate, person.key)
    token = await desk.token("ada", "astro", "astro_users")
    proxy_id = await stored(desk, token, own)
    plain = (await desk.ask(token, "POST", f"/api/proxies/{proxy_id}/delegate", {})).json()["pem"]
    assert admitted(storage, written(plain, tmp_path / "plain"), "ada") == (True, True)
    assert admitted(storage, tmp_path / "plain", "astro") == (False, False)
    with_vo = (await desk.ask(token, "POST", f"/api/proxies/{proxy_id}/delegate", {"voms": {}})).json()["pem"]
    assert admitted(storage, written(with_vo, tmp_path / "with-vo"), "astro") == (True, True)
    forged = forgery(plain)
    write_credential(tmp_path / "forged", forged)
    assert admitted(storage, tmp_path / "forged", "ada") == (False, False)
    assert (await desk.sign_in(forged)).json()["code"] == "chain-signature"


@pytest.mark.peer("xrootd")
async def test_a_storage_that_trusts_the_online_ca(real_desk: Desk, tmp_path: Path) -> None:
    desk = real_desk
    token = await desk.token("ada", "bio", "bio_users")
    answer = await desk.ask(token, "POST", "/api/proxies/new", {"source": "online_ca", "voms": {}})
    assert answer.status_code == 200, answer.text
    given = answer.json()
    proxy = written(given["pem"], tmp_path / "proxy")
    with authority() as site:
        await install_authority(desk.http, site.directory)
        vomsdir = site.place / "vomsdir"
        (vomsdir / "ourvo").mkdir(parents=True)
        (vomsdir / "ourvo" / "spinor.example.org.lsc").write_text((await desk.http.get("/api/x509/lsc")).text)
        assert verified_by_openssl(site.directory, proxy).strip() == f"{proxy}: OK"
        known = {"X509_CERT_DIR": str(site.directory), "X509_VOMS_DIR": str(vomsdir)}
        told = described(proxy, known)
        assert voms_error(proxy, site.directory, vomsdir) == 0
        assert "attribute : /ourvo/Role=NULL" in told.stdout, told.stdout + told.stderr
        assert "verif" not in told.stderr.lower(), told.stderr
        rules = ["u ada /store/ada a", "g /ourvo /store/ourvo a"]
        admission = Admission(accounts={given["identity"]: "ada"}, rules=rules)
        with xrootd_server(site, admission, vomsdir=vomsdir) as server:
            _prepare(server)
            for directory in ("ada", "ourvo"):
                assert admitted(server, proxy, directory) == (True, True)
            assert admitted(server, proxy, "astro") == (False, False)
            write_credential(tmp_path / "forged", forgery(given["pem"]))
            assert admitted(server, tmp_path / "forged", "ada") == (False, False)
