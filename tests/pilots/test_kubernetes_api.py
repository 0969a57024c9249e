"""What goes wrong at a Kubernetes API, with a stand-in for it: a real one refuses and stops when it likes."""

import json
import ssl
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import ElementRefused, ElementSettings, ElementUnavailable
from spinor.pilots.plugins.kubernetes import KubernetesComputing
from spinor.pilots.plugins.kubernetes_api import Namespace, _load
from spinor.testing.computing_contract import Launcher, launcher
from tests.servers.authority import Authority

BACK_OFF = {"reason": "ImagePullBackOff", "message": "no such image"}


class StandIn:
    """The objects of one namespace. `fault` says with which status a request is answered instead."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.fault: Callable[[str, str], int] = lambda method, path: 0
        self.asked: list[tuple[str, str]] = []

    def named(self, kind: str) -> list[dict[str, Any]]:
        return [each for path, each in self.objects.items() if f"/{kind}/" in path]

    def answer(self, request: httpx.Request) -> httpx.Response:
        method, path = request.method, request.url.path
        body = json.loads(request.content or b"{}")
        at = f"{path}/{body['metadata']['name']}" if method == "POST" else path
        self.asked.append((method, at))
        if status := self.fault(method, at):
            return httpx.Response(status, json={"message": "not today"})
        if method == "POST":
            if at in self.objects:
                return httpx.Response(409)
            body["metadata"] |= {"uid": at, "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
            self.objects[at] = body
            return httpx.Response(201, json=body)
        if method == "GET" and path.endswith(("/jobs", "/pods")):
            return httpx.Response(200, json={"items": self.named(path.rpartition("/")[2]), "metadata": {}})
        if at not in self.objects:
            return httpx.Response(404)
        if method == "DELETE":
            del self.objects[at]
        if method == "PATCH":
            self.objects[at]["metadata"] |= body["metadata"]
            self.objects[at]["spec"] |= body["spec"]
        return httpx.Response(200, json=self.objects.get(at, {}))

    def add_pod(self, job: str, **waiting: str) -> None:
        self.objects[f"/api/v1/namespaces/pilots/pods/{job}-x"] = {
            "metadata": {"name": f"{job}-x", "ownerReferences": [{"name": job}]},
            "status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": waiting}}]},
        }


@pytest.fixture
def api() -> StandIn:
    return StandIn()


@pytest.fixture
def plugin(api: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubernetesComputing:
    options = {"image": "x", "in_cluster": True}
    made = KubernetesComputing(ElementSettings(name="cluster", site="K8S", options=options, directory=tmp_path))

    @asynccontextmanager
    async def cluster() -> Any:
        transport = httpx.MockTransport(api.answer)
        async with httpx.AsyncClient(base_url="https://k8s.example", transport=transport) as client:
            yield Namespace(client, "pilots")

    monkeypatch.setattr(made, "_cluster", cluster)
    return made


@pytest.fixture
def launch(tmp_path: Path) -> Launcher:
    return launcher(tmp_path)


@pytest.mark.parametrize("kind", ["jobs", "secrets"])
async def test_one_refused_pilot_is_told_and_the_others_begin(
    api: StandIn, plugin: KubernetesComputing, launch: Launcher, kind: str
) -> None:
    launches = [launch() for _ in range(3)]
    api.fault = lambda method, path: 403 * (f"/{kind}/" in path and f"-{launches[1].pilot_id}-" in path)
    first, second, third = await plugin.submit(launches)
    assert "403" in second.error
    assert second.external_id is None
    for each in (first, third):
        assert f"/api/v1/namespaces/pilots/secrets/{each.external_id}" in api.objects
    assert {job["metadata"]["name"] for job in api.named("jobs")} == {first.external_id, third.external_id}
    assert [job["spec"]["suspend"] for job in api.named("jobs")] == [False, False]


async def test_a_refusal_of_all_is_about_the_element(
    api: StandIn, plugin: KubernetesComputing, launch: Launcher
) -> None:
    api.fault = lambda method, path: 403 * ("/jobs/" in path)
    with pytest.raises(ElementRefused, match="403"):
        await plugin.submit([launch(), launch()])


async def test_what_was_cut_off_holds_no_room_and_is_taken_up_again(
    api: StandIn, plugin: KubernetesComputing, launch: Launcher
) -> None:
    launches = [launch() for _ in range(3)]
    api.fault = lambda method, path: 429 * ("/secrets/" in path and f"-{launches[0].pilot_id}-" in path)
    with pytest.raises(ElementUnavailable, match="429"):
        await plugin.submit(launches)
    assert len(api.named("secrets")) == 2, "what goes wrong with one is no reason to leave the others"
    assert sorted(job["spec"]["suspend"] for job in api.named("jobs")) == [False, False, True]
    api.fault = lambda method, path: 0
    assert all(each.external_id for each in await plugin.submit(launches))
    assert len(api.named("secrets")) == 3
    assert not any(job["spec"]["suspend"] for job in api.named("jobs"))


async def test_what_nobody_takes_up_is_removed(api: StandIn, plugin: KubernetesComputing, launch: Launcher) -> None:
    lost, other = launch(), launch()
    api.fault = lambda method, path: 503 * ("/secrets/" in path)
    with pytest.raises(ElementUnavailable):
        await plugin.submit([lost])
    api.fault = lambda method, path: 0
    (found,) = (await plugin.find([lost.pilot_id])).values()
    (submitted,) = await plugin.submit([other])
    external_id = str(submitted.external_id)
    assert set((await plugin.status([found, external_id])).values()) == {ElementState.WAITING}
    for job in api.named("jobs"):
        job["metadata"]["creationTimestamp"] = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    await plugin.status([external_id])
    assert await plugin.status([found, external_id]) == {
        found: ElementState.VANISHED, external_id: ElementState.WAITING
    }  # fmt: skip


async def test_a_pod_that_cannot_start_gives_its_room_back_and_its_words_stay(
    api: StandIn, plugin: KubernetesComputing, launch: Launcher
) -> None:
    (submitted,) = await plugin.submit([launch()])
    external_id = str(submitted.external_id)
    api.add_pod(external_id, **BACK_OFF)
    assert await plugin.status([external_id]) == {external_id: ElementState.FAILED}
    assert not api.named("jobs")
    api.objects = {path: each for path, each in api.objects.items() if "/pods/" not in path}
    assert "ImagePullBackOff: no such image" in (await plugin.output([external_id]))[external_id]


def test_a_client_certificate_is_taken_with_its_own_key_only(authority: Authority) -> None:
    one, other = authority.user("One"), authority.user("Other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, one.certificate.read_bytes(), one.key.read_bytes())
    with pytest.raises(ssl.SSLError, match="MISMATCH"):
        _load(context, one.certificate.read_bytes(), other.key.read_bytes())
