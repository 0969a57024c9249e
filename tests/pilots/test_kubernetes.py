"""The Kubernetes computing element under the contract, with a real control plane and a stand-in for its node."""

import base64
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BadOptions, ElementRefused, ElementSettings, ElementUnavailable
from spinor.pilots.plugins.kubernetes import KubernetesComputing, state_of
from spinor.pilots.plugins.kubernetes_api import Access
from spinor.testing.computing_contract import ComputingContract, Launcher, Maker
from tests.servers.kubernetes import KubernetesServer


def element(
    cluster: KubernetesServer, directory: Path, of: str = "https://spinor.example", **options: Any
) -> KubernetesComputing:
    secrets = directory / "secrets"
    secrets.mkdir(exist_ok=True)
    for name, text in {"token": cluster.token, "ca.pem": cluster.ca_file.read_text()}.items():
        (secrets / name).touch(mode=0o600)
        (secrets / name).write_text(text)
    given: dict[str, Any] = {"image": "python:3.12", "namespace": cluster.namespace, "grace_s": 2}
    if "kubeconfig" not in options:
        given |= {"server": cluster.url, "token_file": "token", "ca_file": "ca.pem"}
    return KubernetesComputing(
        ElementSettings(
            name="cluster", site="K8S", options=given | options, directory=directory / "computing", url=of,
            secrets=secrets,
        )
    )  # fmt: skip


@pytest.mark.peer("kubernetes")
class TestKubernetes(ComputingContract):
    patience_s = 60.0
    when_down: ClassVar = {"server": "https://localhost:9"}
    when_waiting: ClassVar = {"node_selector": {"place": "nowhere"}}
    keeps_output_of_cancelled = False  # The pod goes, and its log with it.

    @pytest.fixture
    def make(self, kubernetes_server: KubernetesServer, tmp_path: Path) -> Maker:
        return lambda **options: element(kubernetes_server, tmp_path, **options)

    async def test_the_secret_goes_when_the_pilot_has_ended(
        self, kubernetes_server: KubernetesServer, plugin: KubernetesComputing, launch: Launcher
    ) -> None:
        one = launch()
        external_id = await self.submit(plugin, one)
        path = f"/api/v1/namespaces/{kubernetes_server.namespace}/secrets/{external_id}"
        data = kubernetes_server.admin.get(path).raise_for_status().json()["data"]["launch.json"]
        assert one.secret.encode() in base64.b64decode(data)
        await self.until(plugin, external_id, ElementState.DONE)
        assert kubernetes_server.admin.get(path).status_code == 404

    async def test_another_services_pilots_are_not_ours(
        self, kubernetes_server: KubernetesServer, plugin: KubernetesComputing, tmp_path: Path, launch: Launcher
    ) -> None:
        one = launch("long")
        external_id = await self.submit(plugin, one)
        other = element(kubernetes_server, tmp_path, of="https://other.example")
        assert dict(await other.find([one.pilot_id])) == {}
        await other.cancel([external_id])
        assert await other.output([external_id]) == {}
        await self.until(plugin, external_id, ElementState.RUNNING)
        await plugin.cancel([external_id])
        await self.until_gone(plugin, external_id)

    async def test_a_pilot_for_which_there_is_no_node_waits(
        self, kubernetes_server: KubernetesServer, tmp_path: Path, launch: Launcher
    ) -> None:
        nowhere = element(kubernetes_server, tmp_path, node_selector={"place": "nowhere"})
        external_id = await self.submit(nowhere, launch())
        assert (await nowhere.status([external_id]))[external_id] is ElementState.WAITING
        await nowhere.cancel([external_id])
        await self.until(nowhere, external_id, ElementState.VANISHED)

    async def test_a_kubeconfig_opens_the_cluster(
        self, kubernetes_server: KubernetesServer, tmp_path: Path, launch: Launcher
    ) -> None:
        _write(tmp_path, kubernetes_server, {"token": kubernetes_server.token})
        by_config = element(kubernetes_server, tmp_path, kubeconfig="kubeconfig")
        external_id = await self.submit(by_config, launch())
        await self.until(by_config, external_id, ElementState.DONE)

    async def test_a_wrong_token_is_refused(
        self, kubernetes_server: KubernetesServer, tmp_path: Path, launch: Launcher
    ) -> None:
        plugin = element(kubernetes_server, tmp_path)
        (tmp_path / "secrets" / "token").write_text("nonsense")
        with pytest.raises(ElementRefused, match="401"):
            await plugin.submit([launch()])

    async def test_a_namespace_of_others_is_refused(
        self, kubernetes_server: KubernetesServer, tmp_path: Path, launch: Launcher
    ) -> None:
        with pytest.raises(ElementRefused, match="forbidden"):
            await element(kubernetes_server, tmp_path, namespace="default").submit([launch()])

    async def test_a_dead_cluster_is_unavailable(
        self, kubernetes_server: KubernetesServer, tmp_path: Path, launch: Launcher
    ) -> None:
        with pytest.raises(ElementUnavailable):
            await element(kubernetes_server, tmp_path, server="https://localhost:9").submit([launch()])


def _write(directory: Path, server: KubernetesServer, user: dict[str, Any]) -> None:
    """A kubeconfig below the secrets."""
    (directory / "secrets").mkdir(exist_ok=True)
    file = directory / "secrets" / "kubeconfig"
    file.touch(mode=0o600)
    authority = base64.b64encode(server.ca_file.read_bytes()).decode()
    content = {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server.url, "certificate-authority-data": authority}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    file.write_text(yaml.safe_dump(content))


def _pod(phase: str, waiting: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": waiting}} if waiting else {}
    return {"status": {"phase": phase, "containerStatuses": [{"state": state}]}}


def test_states() -> None:
    fresh: dict[str, Any] = {"status": {}}
    done = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    failed = {
        "status": {"conditions": [{"type": "FailureTarget", "status": "True"}, {"type": "Failed", "status": "True"}]}
    }
    assert state_of(None, None) is ElementState.VANISHED
    assert state_of(None, _pod("Running")) is ElementState.RUNNING
    assert state_of(fresh, None) is ElementState.WAITING
    assert state_of(fresh, _pod("Pending", "ContainerCreating")) is ElementState.WAITING
    assert state_of(fresh, _pod("Pending", "ImagePullBackOff")) is ElementState.FAILED
    assert state_of(fresh, _pod("Running")) is ElementState.RUNNING
    assert state_of(done, _pod("Succeeded")) is ElementState.DONE
    assert state_of(failed, _pod("Failed")) is ElementState.FAILED


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "image"),
        ({"image": "x"}, "exactly one of"),
        ({"image": "x", "in_cluster": True, "server": "https://k8s.example"}, "server"),
        ({"image": "x", "server": "http://k8s.example", "token_file": "t"}, "https"),
        ({"image": "x", "server": "https://k8s.example", "token_file": "../t"}, "token_file"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], word: str, tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match=word):
        KubernetesComputing(ElementSettings(name="cluster", site="K8S", options=options, directory=tmp_path))


def test_a_kubeconfig_that_runs_commands_is_refused(tmp_path: Path) -> None:
    server = KubernetesServer("https://k8s.example", "pilots", "", tmp_path / "ca.pem", None)  # type: ignore[arg-type]
    (tmp_path / "ca.pem").write_text("")
    _write(tmp_path, server, {"exec": {"command": "aws"}})
    with pytest.raises(ElementRefused, match="are not run"):
        Access.of_kubeconfig(tmp_path / "secrets" / "kubeconfig")
