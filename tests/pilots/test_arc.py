"""The ARC computing element under the contract, with a real A-REX: with a proxy, and with a token."""

import gc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BadOptions, ElementRefused, ElementSettings, ElementUnavailable
from spinor.pilots.plugins.arc import ARCComputing, state_of
from spinor.testing.computing_contract import ComputingContract, Launcher, Maker
from spinor.x509.proxy import make_proxy, read_credential, write_credential
from tests.servers.arc import ARCServer, arc_server
from tests.servers.authority import Authority
from tests.servers.oidc import oidc_server


def element(
    server: ARCServer,
    authority: Authority,
    directory: Path,
    of: str = "https://spinor.example",
    of_user: tuple[Path, Path] | None = None,
    **options: Any,
) -> ARCComputing:
    """With a proxy of the user whom the element admits, unless it is another one."""
    secrets = directory / "secrets"
    secrets.mkdir(exist_ok=True)
    own = read_credential(*(of_user or (server.user.certificate, server.user.key)))
    write_credential(secrets / "proxy.pem", make_proxy(own, lifetime=timedelta(hours=12), now=datetime.now(UTC)))
    (secrets / "ca.pem").write_bytes(authority.ca_file.read_bytes())
    given = {"url": server.url, "proxy_file": "proxy.pem", "ca": "ca.pem"} | options
    return ARCComputing(
        ElementSettings(
            name="arc", site="ARC", options=given, directory=directory / "computing",
            url=of, secrets=secrets,
        )
    )  # fmt: skip


# What is cut off in the middle of a TLS handshake httpcore leaves to the collector of garbage to close.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.peer("arc")
class TestARC(ComputingContract):
    patience_s = 120.0
    when_down: ClassVar = {"url": "https://localhost:9/arex"}
    keeps_output_of_cancelled = False  # The back end that runs jobs as processes ends a script around the pilot only.

    @pytest.fixture
    def make(self, arc_server: ARCServer, authority: Authority, tmp_path: Path) -> Maker:
        return lambda **options: element(arc_server, authority, tmp_path, **options)

    @pytest.fixture(autouse=True)
    def nothing_is_left_for_other_tests(self) -> Iterator[None]:
        yield
        gc.collect()

    async def test_the_element_gets_a_proxy_of_its_own(
        self, arc_server: ARCServer, plugin: ARCComputing, launch: Launcher
    ) -> None:
        external_id = await self.submit(plugin, launch())
        given = (arc_server.place / "control" / f"job.{external_id}.proxy").read_text()
        assert "PRIVATE KEY" in given
        assert given.count("BEGIN CERTIFICATE") == 3  # Theirs, ours, and the user's.
        await plugin.cancel([external_id])

    async def test_another_services_pilots_are_not_ours(
        self, arc_server: ARCServer, authority: Authority, plugin: ARCComputing, tmp_path: Path, launch: Launcher
    ) -> None:
        one = launch("long")
        external_id = await self.submit(plugin, one)
        other = element(arc_server, authority, tmp_path, of="https://other.example")
        assert dict(await other.find([one.pilot_id])) == {}
        await other.cancel([external_id])
        assert await other.output([external_id]) == {}
        await self.until(plugin, external_id, ElementState.RUNNING)
        await plugin.cancel([external_id])

    async def test_what_ended_long_ago_is_cleaned(
        self, arc_server: ARCServer, authority: Authority, tmp_path: Path, launch: Launcher
    ) -> None:
        plugin = element(arc_server, authority, tmp_path, keep_s=0)
        external_id = await self.submit(plugin, launch("fail"))
        await self.until(plugin, external_id, ElementState.FAILED)
        assert "exit code" in (await plugin.output([external_id]))[external_id]
        await self.submit(plugin, launch())
        await self.until(plugin, external_id, ElementState.VANISHED)

    async def test_a_stranger_is_refused(
        self, arc_server: ARCServer, authority: Authority, tmp_path: Path, launch: Launcher
    ) -> None:
        user = authority.user("Mallory")
        plugin = element(arc_server, authority, tmp_path, of_user=(user.certificate, user.key))
        with pytest.raises(ElementRefused):
            await plugin.submit([launch()])

    async def test_a_dead_element_is_unavailable(
        self, arc_server: ARCServer, authority: Authority, tmp_path: Path, launch: Launcher
    ) -> None:
        plugin = element(arc_server, authority, tmp_path, url="https://localhost:9/arex")
        with pytest.raises(ElementUnavailable):
            await plugin.submit([launch()])


@pytest.mark.peer("arc")
@pytest.mark.peer("oidc-provider")
class TestTokens:
    @pytest.fixture
    def arc_with_token(self, authority: Authority) -> Iterator[tuple[ARCServer, str]]:
        with oidc_server(authority, audience="https://arc.example", scopes=["compute.create"]) as issuer:
            client = issuer.add_client("spinor", scope="openid compute.create")
            issuer.add_user("factory", access_token_claims={"wlcg.ver": "1.0"})
            with arc_server(authority, issuers=[issuer.issuer]) as arc:
                yield arc, issuer.sign_in(client, "factory", "openid compute.create")["access_token"]

    async def test_a_pilot_runs(
        self, arc_with_token: tuple[ARCServer, str], authority: Authority, tmp_path: Path, launch: Launcher
    ) -> None:
        arc, token = arc_with_token
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "token").touch(mode=0o600)
        (tmp_path / "secrets" / "token").write_text(token + "\n")
        plugin = element(arc, authority, tmp_path, token_file="token", proxy_file="")
        contract = TestARC()
        external_id = await contract.submit(plugin, launch())
        await contract.until(plugin, external_id, ElementState.DONE)

    launch = TestARC.launch


def test_states() -> None:
    waiting, running = ElementState.WAITING, ElementState.RUNNING
    states = {
        "ACCEPTING": waiting, "ACCEPTED": waiting, "PREPARING": waiting, "PREPARED": waiting, "SUBMITTING": waiting,
        "QUEUING": waiting, "RUNNING": running, "HELD": running, "EXITINGLRMS": running, "OTHER": running,
        "EXECUTED": running, "FINISHING": running, "KILLING": running, "FINISHED": ElementState.DONE,
        "FAILED": ElementState.FAILED, "KILLED": ElementState.FAILED, "WIPED": ElementState.VANISHED,
        "NEWER THAN WE": ElementState.UNKNOWN,
    }  # fmt: skip
    for name, state in states.items():
        assert state_of({"status-code": "200", "state": name}) is state
    assert state_of({"status-code": "404", "state": "None"}) is ElementState.VANISHED
    assert state_of({"status-code": "500", "state": "None"}) is ElementState.UNKNOWN
    assert state_of(None) is ElementState.VANISHED


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://arc.example/arex", "token_file": "token"},
        {"url": "https://arc.example/arex", "token_file": "../token"},
        {"url": "https://arc.example/arex", "proxy_file": "/tmp/x509up_u0"},
    ],
)
def test_wrong_options_are_named(options: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match=("url" if options["url"] == "http://arc.example/arex" else "_file")):
        ARCComputing(ElementSettings(name="arc", site="ARC", options=options, directory=tmp_path))


def test_credentials_are_asked_for(tmp_path: Path) -> None:
    options = {"url": "https://arc.example/arex"}
    with pytest.raises(BadOptions, match="token_file and proxy_file"):
        ARCComputing(ElementSettings(name="arc", site="ARC", options=options, directory=tmp_path))
