"""The process that stands in for a node's pilot, when the element behind it, its server or a job goes wrong."""

import io
import json
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BadOptions, ElementSettings, ElementUnavailable, PilotLaunch, Submitted
from spinor.pilots.plugins.push import PushComputing
from spinor.pilots.push import agent as agents
from spinor.pilots.push import parcel
from spinor.pilots.push.behind import Behind
from spinor_pilot import node
from spinor_pilot.faults import SiteFault
from spinor_pilot.limits import RESERVE_BYTES
from spinor_pilot.reports import Reports
from spinor_pilot.server import Refused, Server

AWAY = ElementUnavailable("The element does not answer.")


class Element:
    """An element whose answers are lists; the last one of each is given again and again. Errors are raised."""

    name: ClassVar[str] = "scripted"

    def __init__(self) -> None:
        self.submits: list[Any] = ["x1"]
        self.states: list[Any] = [ElementState.DONE]
        self.cancels: list[Any] = [None]
        self.brings: list[Any] = [False]
        self.launches: list[PilotLaunch] = []
        self.asked_to_cancel: list[str] = []
        self.before_answer: Callable[[], None] = lambda: None

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        self.launches += pilots
        self.before_answer()
        answer = _next(self.submits)
        return [answer if isinstance(answer, Submitted) else Submitted(pilot_id=1, external_id=answer)]

    async def find(self, pilot_ids: Sequence[int]) -> Mapping[int, str]:
        return dict.fromkeys(pilot_ids, "x1")

    async def status(self, external_ids: Sequence[str]) -> Mapping[str, ElementState]:
        return {each: _next(self.states) for each in external_ids}

    async def cancel(self, external_ids: Sequence[str]) -> None:
        self.asked_to_cancel += external_ids
        _next(self.cancels)

    async def output(self, external_ids: Sequence[str]) -> Mapping[str, str]:
        raise AWAY

    async def bring(self, external_id: str, name: str, target: Path) -> bool:
        jobs = _next(self.brings)
        if jobs is False:
            return False
        with tarfile.open(target, "w") as archive:
            for job_id in jobs:
                member = tarfile.TarInfo(f"{job_id}.1/ended.json")
                content = json.dumps({**reference(job_id), "exit_code": 0, "error": "", "outputs": []}).encode()
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return True


class Service(Server):
    """A server that hears everything, and refuses what it is told to."""

    def __init__(self) -> None:
        super().__init__("https://server.invalid")
        self.told: list[tuple[str, int]] = []
        self.classes: list[str | None] = []
        self.refusals: dict[str, Refused] = {}
        self.said: list[tuple[str, Any]] = []
        self.matches: list[Any] = []

    def json(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        if path == "/api/pilot/reports":
            self.told += [(kind, each["job_id"]) for kind, reports in body.items() for each in reports]
            self.classes += [each.get("error_class") for each in body["ended"]]
            if path in self.refusals:
                raise self.refusals[path]
            return {kind: [{"status": "done"} for _ in reports] for kind, reports in body.items()}
        if path == "/api/pilot/heartbeat":
            time.sleep(0.01)
            return {"lost": [], "drain": False}
        self.said.append((path, body))
        return {"jobs": _next(self.matches)} if path == "/api/pilot/match" else {}

    def download(self, path: str, target: Any, given_up: Any = None) -> None:
        for part, refusal in self.refusals.items():
            if part in path:
                raise refusal
        target.write(b"x")


def _next(answers: list[Any]) -> Any:
    answer = answers.pop(0) if len(answers) > 1 else answers[0]
    if isinstance(answer, BaseException):
        raise answer
    return answer


def reference(job_id: int) -> dict[str, int]:
    return {"job_id": job_id, "attempt": 1}


def job(job_id: int, *sandboxes: int) -> dict[str, Any]:
    inputs = [{"sandbox_id": number, "size_bytes": 1} for number in sandboxes]
    return {**reference(job_id), "input_sandboxes": inputs, "input_data": [], "output_data": []}


@pytest.fixture
def element() -> Element:
    return Element()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def agent(element: Element, service: Service, tmp_path: Path) -> agents.Agent:
    behind = {
        "plugin": "local", "name": "far", "site": "FAR", "options": {}, "directory": str(tmp_path / "behind"),
        "url": "", "secrets": str(tmp_path),
    }  # fmt: skip
    launch = {
        "url": "https://server.invalid", "pilot_id": 1, "vo": "astro", "cores": 1, "memory_bytes": 1, "wall_s": 8000,
        "idle_s": 0.1, "grace_s": 1,
        "push": {"element": behind, "queue_s": 1000, "jobs": 1, "poll_s": 0.01, "disk_bytes": 1000},
    }  # fmt: skip
    made = agents.Agent(launch, tmp_path)
    made.server, made.reports = service, Reports(service)
    made.behind = Behind(element, 0.01)
    return made


async def test_a_later_parcel_is_offered_what_is_left(agent: agents.Agent, service: Service) -> None:
    assert 6900 < agent.offer(agent.wall_s())["wall_s"] <= 6940  # Less the wait, and a margin for the last reports.
    agent.ends -= 5000
    assert 1900 < agent.offer(agent.wall_s())["wall_s"] <= 1940
    agent.ends -= 1900
    assert await agent.work(1) == 0
    assert [path for path, _ in service.said] == ["/api/pilot/goodbye"]  # And no job is asked for.


async def test_a_parcel_has_the_wall_time_that_was_offered(agent: agents.Agent, element: Element) -> None:
    element.brings = [[7]]
    await agent._carry_out([job(7)], 321)
    assert [launch.wall_s for launch in element.launches] == [321]


async def test_results_are_fetched_again_when_the_element_was_away(
    agent: agents.Agent, element: Element, service: Service
) -> None:
    element.brings = [AWAY, [7]]
    await agent._carry_out([job(7)], 600)
    assert service.told == [("ended", 7)]


async def test_a_parcel_is_submitted_again_under_its_number(
    agent: agents.Agent, element: Element, service: Service
) -> None:
    element.submits, element.brings = [AWAY, "x1"], [[7]]
    await agent._carry_out([job(7)], 600)
    assert len({launch.pilot_id for launch in element.launches}) == 1
    assert (len(element.launches), service.told) == (2, [("ended", 7)])


async def test_what_the_element_may_have_taken_is_cancelled(
    agent: agents.Agent, element: Element, service: Service
) -> None:
    element.submits, element.states = [AWAY], [ElementState.WAITING, ElementState.DONE]
    element.before_answer = agent.stop
    with pytest.raises(ElementUnavailable):
        await agent._carry_out([job(7)], 600)
    assert element.asked_to_cancel == ["x1"]
    assert service.told == [("returned", 7)]


async def test_a_refused_parcel_gives_its_jobs_back(agent: agents.Agent, element: Element, service: Service) -> None:
    element.submits = [Submitted(pilot_id=1, error="too many cores")]
    with pytest.raises(agents.NodeFailed, match="too many cores"):
        await agent._carry_out([job(7)], 600)
    assert service.told == [("returned", 7)]


async def test_jobs_that_never_began_are_given_back(agent: agents.Agent, element: Element, service: Service) -> None:
    agent.push["queue_s"] = -1
    element.states = [ElementState.WAITING, ElementState.WAITING, ElementState.DONE]
    with pytest.raises(agents.NodeFailed, match="queue"):
        await agent._carry_out([job(7), job(8)], 600)
    assert service.told == [("returned", 7), ("returned", 8)]


async def test_a_cancel_that_fails_is_tried_again(agent: agents.Agent, element: Element) -> None:
    element.states = [ElementState.RUNNING, ElementState.RUNNING, ElementState.DONE]
    element.cancels = [AWAY, None]
    await agent.behind.end("x1")
    assert element.asked_to_cancel == ["x1", "x1"]


async def test_results_behind_a_missing_one_are_handed_on(
    agent: agents.Agent, element: Element, service: Service
) -> None:
    element.brings = [[8]]
    with pytest.raises(agents.NodeFailed, match="no report of job 7"):
        await agent._carry_out([job(7), job(8)], 600)
    assert service.told == [("ended", 8)]


async def test_last_words_that_cannot_be_read_hide_nothing(agent: agents.Agent, element: Element) -> None:
    with pytest.raises(agents.NodeFailed, match="has left nothing"):
        await agent._carry_out([job(7)], 600)


async def test_a_job_that_is_gone_before_its_sandbox_came_is_passed_over(
    agent: agents.Agent, element: Element, service: Service
) -> None:
    service.refusals["sandboxes/1?"] = Refused(409, "stale-report", "killed", {})
    element.brings = [[8]]
    await agent._carry_out([job(7, 1), job(8, 2)], 600)
    assert service.told == [("ended", 8)]


async def test_another_refusal_fails_the_job_and_not_the_pilot(
    agent: agents.Agent, element: Element, service: Service
) -> None:
    service.refusals["sandboxes/1?"] = Refused(403, "forbidden", "no", {})
    service.refusals["/api/pilot/reports"] = Refused(409, "stale-report", "killed", {})
    await agent._carry_out([job(7, 1)], 600)
    assert (service.told, service.classes, element.launches) == ([("ended", 7)], ["site"], [])


async def test_a_job_lost_while_others_inputs_came_is_not_sent(
    agent: agents.Agent, element: Element, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(server: Server, job: dict[str, Any], *rest: Any) -> None:
        agent.lost.add((7, 1))

    monkeypatch.setattr(parcel, "collect", slow)
    await agent._carry_out([job(7)], 600)
    assert element.launches == []


async def test_whatever_goes_wrong_there_is_a_good_bye(
    agent: agents.Agent, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    service.matches = [[job(7)]]
    monkeypatch.setattr(parcel, "build", fails)
    assert await agent.work(1) == 1
    path, body = service.said[-1]
    assert path == "/api/pilot/goodbye"
    assert "ENOSPC" in body["reason"]


async def test_without_a_heartbeat_nothing_goes_on(
    agent: agents.Agent, element: Element, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.held[7, 1] = {}

    async def broken(*_: Any) -> None:
        raise ValueError("no JSON")

    monkeypatch.setattr(agent, "_keep_leases", broken)
    await agent._beat(1)
    assert (agent.stopped.is_set(), agent.lost) == (True, {(7, 1)})


@pytest.mark.parametrize(("disk_bytes", "free_bytes"), [(4, 1 << 40), (6, RESERVE_BYTES + 8)])
def test_inputs_without_room_are_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk_bytes: int, free_bytes: int
) -> None:
    monkeypatch.setattr(node, "disk_bytes", lambda _: free_bytes)
    parcel.check_room(job(7, 1, 2, 3, 4), tmp_path, disk_bytes)
    with pytest.raises(SiteFault, match="5 bytes"):
        parcel.check_room(job(7, 1, 2, 3, 4, 5), tmp_path, disk_bytes)


async def test_wall_time_that_is_all_waiting_is_an_operators_mistake(tmp_path: Path) -> None:
    settings = ElementSettings(
        name="far", site="FAR", options={"plugin": "local", "queue_s": 3600}, directory=tmp_path / "far"
    )
    launch = PilotLaunch(
        pilot_id=1, secret="x", url="", ca_pem="", vo="astro", cores=1, memory_bytes=1, wall_s=3700, bundle=tmp_path
    )  # fmt: skip
    with pytest.raises(BadOptions, match="queue_s"):
        await PushComputing(settings).submit([launch])
