"""The HTCondor computing element under the contract, with a real pool."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BadOptions, ElementRefused, ElementSettings, ElementUnavailable
from spinor.pilots.plugins import htcondor
from spinor.pilots.plugins.htcondor import HTCondorComputing, state_of
from spinor.testing.computing_contract import ComputingContract, Launcher, Maker, launcher
from tests.servers.authority import Authority
from tests.servers.htcondor import HTCondorServer, htcondor_server
from tests.servers.oidc import oidc_server


def element(
    server: HTCondorServer, directory: Path, of: str = "https://spinor.example", **options: Any
) -> HTCondorComputing:
    given = {
        "collector": server.collector,
        "schedd": server.schedd,
        "token_directory": server.tokens.name,
        "trust_domain": "test.spinor",
        "grace_s": 2,
    }
    return HTCondorComputing(
        ElementSettings(
            name="pool", site="CONDOR", options=given | options, directory=directory / "computing",
            url=of, secrets=server.tokens.parent,
        )
    )  # fmt: skip


@pytest.fixture
def launch(tmp_path: Path) -> Launcher:
    return launcher(tmp_path)


@pytest.mark.peer("htcondor")
class TestHTCondor(ComputingContract):
    patience_s = 60.0
    when_down: ClassVar = {"collector": "127.0.0.1:9"}
    when_waiting: ClassVar = {"submit": {"requirements": "False"}}
    keeps_output_of_cancelled = False  # A removed job leaves the queue.

    @pytest.fixture
    def make(self, htcondor_server: HTCondorServer, tmp_path: Path) -> Maker:
        return lambda **options: element(htcondor_server, tmp_path, **options)

    async def test_a_held_pilot_has_failed_and_its_log_says_why(
        self, htcondor_server: HTCondorServer, plugin: HTCondorComputing, launch: Launcher
    ) -> None:
        external_id = await self.submit(plugin, launch("long"))
        await self.until(plugin, external_id, ElementState.RUNNING)
        htcondor_server.command("condor_hold", "-reason", "the queue is closed for today", external_id)
        await self.until(plugin, external_id, ElementState.FAILED)
        assert "the queue is closed for today" in (await plugin.output([external_id]))[external_id]
        await plugin.cancel([external_id])
        await self.until(plugin, external_id, ElementState.VANISHED)

    async def test_a_pilot_that_cannot_start_is_waiting_and_can_be_ended(
        self, htcondor_server: HTCondorServer, tmp_path: Path, launch: Launcher
    ) -> None:
        narrow = element(htcondor_server, tmp_path, submit={"requirements": "False", "+ProjectName": '"astro"'})
        external_id = await self.submit(narrow, launch())
        assert (await narrow.status([external_id]))[external_id] is ElementState.WAITING
        await narrow.cancel([external_id])
        await self.until(narrow, external_id, ElementState.VANISHED)

    async def test_another_services_pilots_are_not_ours(
        self, htcondor_server: HTCondorServer, plugin: HTCondorComputing, tmp_path: Path, launch: Launcher
    ) -> None:
        one = launch("long")
        external_id = await self.submit(plugin, one)
        other = element(htcondor_server, tmp_path, of="https://other.example")
        assert dict(await other.find([one.pilot_id])) == {}
        await other.cancel([external_id])
        assert await other.output([external_id]) == {}
        await self.until(plugin, external_id, ElementState.RUNNING)
        await plugin.cancel([external_id])

    async def test_nothing_of_a_launch_stays_on_the_worker(
        self, plugin: HTCondorComputing, launch: Launcher, tmp_path: Path
    ) -> None:
        left = tmp_path / "computing" / "output" / "sent-by-a-call-that-was-killed" / "4711"
        home = tmp_path / "computing" / "output" / "pilot-4711"
        for directory in (left, home):
            directory.mkdir(parents=True)
        (left / "launch.json").write_text("a secret")
        for directory in (left.parent, home):
            os.utime(directory, (0, 0))
        one = launch()
        external_id = await self.submit(plugin, one)
        assert not home.exists()
        await self.until(plugin, external_id, ElementState.DONE)
        assert (await plugin.output([external_id]))[external_id]
        assert _files(tmp_path) == ["stand-in.pyz"]

    async def test_without_a_token_the_schedd_refuses(
        self, htcondor_server: HTCondorServer, tmp_path: Path, launch: Launcher
    ) -> None:
        (htcondor_server.place / "no-tokens").mkdir(mode=0o700, exist_ok=True)
        stranger = element(htcondor_server, tmp_path, token_directory="no-tokens")
        with pytest.raises(ElementRefused):
            await stranger.submit([launch()])

    async def test_a_dead_pool_is_unavailable(
        self, htcondor_server: HTCondorServer, tmp_path: Path, launch: Launcher
    ) -> None:
        dead = element(htcondor_server, tmp_path, collector="127.0.0.1:9")
        with pytest.raises(ElementUnavailable):
            await dead.status(["1.0"])

    async def test_a_configuration_file_names_the_pool(
        self, htcondor_server: HTCondorServer, tmp_path: Path, launch: Launcher
    ) -> None:
        """As on a machine that belongs to a pool: nothing but its own configuration says where the schedd is."""
        (htcondor_server.place / "client_config").write_text(
            f"COLLECTOR_HOST = {htcondor_server.collector}\nSCHEDD_HOST = {htcondor_server.schedd}\n"
            f"SEC_TOKEN_DIRECTORY = {htcondor_server.tokens}\nSEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS\n"
            "TRUST_DOMAIN = test.spinor\nENABLE_IPV6 = False\n"
        )
        here = element(
            htcondor_server, tmp_path, collector="", schedd="", token_directory="", trust_domain="",
            config="client_config",
        )  # fmt: skip
        external_id = await self.submit(here, launch())
        await self.until(here, external_id, ElementState.DONE)


@pytest.mark.peer("htcondor")
@pytest.mark.peer("oidc-provider")
class TestTokens:
    """As an HTCondor-CE admits whoever brings a WLCG token: the token's scopes are what it may do."""

    @pytest.fixture
    def pool(self, authority: Authority) -> Iterator[HTCondorServer]:
        scopes = ["compute.read", "compute.create", "compute.modify", "compute.cancel"]
        audience = "https://ce.example"
        with oidc_server(authority, audience=audience, scopes=scopes) as issuer:
            client = issuer.add_client("spinor", scope=" ".join(["openid", *scopes]))
            issuer.add_user("factory", access_token_claims={"wlcg.ver": "1.0"})
            with htcondor_server(authority, issuers=[issuer.issuer], audience=audience) as pool:
                given = issuer.sign_in(client, "factory", " ".join(["openid", *scopes]))
                for name, text in {"token": given["access_token"], "ca.pem": pool.ca_file.read_text()}.items():
                    (pool.place / name).touch(mode=0o600)
                    (pool.place / name).write_text(text)
                yield pool

    async def test_a_pilot_runs(self, pool: HTCondorServer, tmp_path: Path, launch: Launcher) -> None:
        plugin = element(pool, tmp_path, token_directory="", token_file="token", ca_file="ca.pem")
        contract = TestHTCondor()
        external_id = await contract.submit(plugin, launch())
        await contract.until(plugin, external_id, ElementState.DONE)

    launch = TestHTCondor.launch


def _files(directory: Path) -> list[str]:
    return [path.name for path in directory.rglob("*") if path.is_file()]


async def test_calls_with_parcels_may_take_long(
    launch: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody takes their jobs for abandoned meanwhile."""
    asked: list[dict[str, Any]] = []

    def run(call: bytes, environ: Mapping[str, str], process: object) -> tuple[bytes, bytes]:
        asked.append(msgspec.json.decode(call))
        return b'{"answer": {}}', b""

    monkeypatch.setattr(htcondor, "_run", run)
    monkeypatch.setattr(htcondor, "find_spec", lambda name: name)
    plugin = HTCondorComputing(ElementSettings(name="pool", site="CONDOR", options={}, directory=tmp_path))
    small, large = launch(), msgspec.structs.replace(launch(), leaves="left.tar")
    await plugin.submit([small, large])
    await plugin.status(["1.0"])
    await plugin.bring("1.0", "left.tar", tmp_path / "brought")
    assert [each["limit_s"] for each in asked] == [120, 3600, 120, 3600]
    for each in asked[:2]:
        assert each["spool_s"] > each["limit_s"]
        assert f"? {each['spool_s'] * 2} :" in each["submit"]["periodic_remove"]


def test_states() -> None:
    cases = [
        ({"JobStatus": 1}, ElementState.WAITING),
        ({"JobStatus": 2}, ElementState.RUNNING),
        ({"JobStatus": 3}, ElementState.VANISHED),
        ({"JobStatus": 3, "NumJobStarts": 1}, ElementState.RUNNING),
        ({"JobStatus": 4, "ExitCode": 0, "ExitBySignal": False}, ElementState.DONE),
        ({"JobStatus": 4, "ExitCode": 3, "ExitBySignal": False}, ElementState.FAILED),
        ({"JobStatus": 4, "ExitBySignal": True}, ElementState.FAILED),
        ({"JobStatus": 5, "HoldReasonCode": 16}, ElementState.WAITING),
        ({"JobStatus": 5, "HoldReasonCode": 1}, ElementState.FAILED),
        ({"JobStatus": 6}, ElementState.RUNNING),
        ({"JobStatus": 7}, ElementState.RUNNING),
        ({"JobStatus": 9}, ElementState.UNKNOWN),
    ]
    assert [state_of(ad) for ad, _ in cases] == [state for _, state in cases]


@pytest.mark.parametrize(
    "options",
    [
        {"colector": "ce.example:9619"},
        {"token_file": "../../etc/shadow"},
        {"token_directory": "/etc"},
        {"submit": {"transfer_input_files": "/etc/shadow"}},
        {"submit": {"+SpinorPilotId": "1"}},
        {"submit": {"requirements": "True\nqueue 100"}},
        {"submit": {"accounting_group": "$ENV(HOME)"}},
    ],
)
def test_wrong_options_are_named(options: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match=next(iter(options))):
        HTCondorComputing(ElementSettings(name="pool", site="CONDOR", options=options, directory=tmp_path))
