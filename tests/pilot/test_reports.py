"""What a pilot tells of its payloads travels together, and each thread hears of its own report."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spinor_pilot import isolation, outputs
from spinor_pilot.cgroups import Controllers
from spinor_pilot.children import Guardian
from spinor_pilot.payload import Payload
from spinor_pilot.reports import ENDED, RETURNED, STARTED, Reports
from spinor_pilot.server import GivenUp, Refused, Unreachable
from spinor_pilot.workplace import Workshop
from tests.pilot.recorder import Recorder


class Office:
    """In the server's place. The first request waits for the word, so that more reports come up meanwhile."""

    def __init__(self, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.go = threading.Event()
        self._answer = answer

    def json(self, _method: str, _path: str, body: dict[str, Any], given_up: Callable[[], bool]) -> dict[str, Any]:
        self.bodies.append(body)
        while not self.go.wait(0.01):
            if given_up():
                raise GivenUp
        return {kind: [self._answer(report) for report in reports] for kind, reports in body.items()}


def tell(reports: Reports, job_id: int) -> str:
    return reports.tell(ENDED, {"job_id": job_id}, lambda: False)


def together(office: Office, count: int = 6) -> list[str | BaseException]:
    """The answers to reports that were all told before the first request was answered."""
    reports = Reports(office)  # type: ignore[arg-type]
    with ThreadPoolExecutor(count) as threads:
        told = [threads.submit(tell, reports, job_id) for job_id in range(count)]
        while not office.bodies or len(office.bodies[0][ENDED]) + len(reports._letters) < count:
            time.sleep(0.01)
        office.go.set()
        return [one.exception() or one.result() for one in told]


def test_reports_travel_together() -> None:
    office = Office(lambda report: {"status": f"done {report['job_id']}"})
    assert together(office) == [f"done {job_id}" for job_id in range(6)]
    assert len(office.bodies) <= 2


def test_a_refusal_is_for_one_only() -> None:
    refusal = {"refused": {"status": 409, "code": "stale-report", "detail": "no"}}
    office = Office(lambda report: refusal if report["job_id"] == 3 else {"status": "done"})
    answers = together(office)
    assert isinstance(answers[3], Refused)
    assert (answers[3].code, answers[3].first) == ("stale-report", True)
    assert [answer for answer in answers if not isinstance(answer, Refused)] == ["done"] * 5


def test_a_report_that_cannot_be_read_keeps_no_other_out() -> None:
    def answer(report: dict[str, Any]) -> dict[str, Any]:
        if report["job_id"] == 3:
            raise Refused(422, "bad-input", "what is this", {})
        return {"status": "done"}

    answers = together(Office(answer))
    assert isinstance(answers[3], Refused)
    assert [each for each in answers if not isinstance(each, Refused)] == ["done"] * 5


def test_whoever_gives_up_is_not_waited_for() -> None:
    office = Office(lambda _: {"status": "done"})
    with pytest.raises(GivenUp):
        Reports(office).tell(ENDED, {"job_id": 1}, lambda: True)  # type: ignore[arg-type]


def test_everybody_hears_that_the_server_is_away() -> None:
    def away(_: dict[str, Any]) -> dict[str, Any]:
        raise Unreachable("for hours")

    assert all(isinstance(answer, Unreachable) for answer in together(Office(away)))


def test_an_answer_that_cannot_be_read_ends_no_thread() -> None:
    """Whoever told is not left waiting, and whoever tells next is heard."""
    answers: list[dict[str, Any]] = [{}, {ENDED: []}, {ENDED: [{"status": "done"}]}]

    class Strange:
        def json(self, *_: Any, **__: Any) -> dict[str, Any]:
            return {STARTED: [], ENDED: [], RETURNED: [], **answers[0]} if len(answers) < 3 else {}

    reports = Reports(Strange())  # type: ignore[arg-type]
    while len(answers) > 1:
        with pytest.raises(Unreachable, match="can be read"):
            tell(reports, 1)
        del answers[0]
    assert tell(reports, 1) == "done"


def test_what_was_tried_together_was_tried_for_each() -> None:
    """The first try may have been heard though its answer was lost, so no refusal after it is a first one."""

    class Restarted:
        def __init__(self) -> None:
            self.asked: list[dict[str, Any]] = []
            self.go = threading.Event()

        def json(self, _method: str, _path: str, body: dict[str, Any], given_up: Callable[[], bool]) -> dict[str, Any]:
            if not self.asked:
                self.asked.append(body)
                self.go.wait()
                return {kind: [{"status": "done"} for _ in reports] for kind, reports in body.items()}
            self.asked.append(body)
            refused = Refused(410, "pilot-ended", "it has ended", {})
            refused.first = len(body[ENDED]) == 1
            raise refused

    office = Restarted()
    reports = Reports(office)  # type: ignore[arg-type]
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(tell, reports, 0)
        while not office.asked:
            time.sleep(0.01)
        told = [threads.submit(tell, reports, job_id) for job_id in (1, 2)]
        while len(reports._letters) < 2:
            time.sleep(0.01)
        office.go.set()
        assert first.result() == "done"
        for one in told:
            refused = one.exception()
            assert isinstance(refused, Refused)
            assert not refused.first
    assert [len(body[ENDED]) for body in office.asked] == [1, 2, 1, 1]


class Witness(Recorder):
    """In the server's place for one payload; it does what a test says when the payload's end is told."""

    def __init__(self) -> None:
        super().__init__()
        self.at_end: Callable[[], None] = lambda: None
        self.answers = True
        self.refusal: Refused | None = None

    def json(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        answer = super().json(method, path, body, **more)
        if path.endswith("/reports") and body["ended"]:
            self.at_end()
            while not self.answers:  # The answer is lost on its way, and the next try finds nobody.
                if more["given_up"]():
                    raise GivenUp
                time.sleep(0.01)
        return answer

    def download(self, *_: Any) -> None:
        assert self.refusal is not None
        raise self.refusal


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    base = tmp_path / "pilot"
    base.mkdir()
    guardian = Guardian()
    guardian.watch()
    none = isolation.chosen(guardian, base, isolation.Site(isolation.NONE))
    yield Workshop(base, guardian, none, Controllers({}), [])
    guardian.close()


def payload(server: Witness, workshop: Workshop, script: str = "echo x >result", **changes: Any) -> Payload:
    assignment = {
        "job_id": 1, "attempt": 1, "vo": "astro", "owner": "ada", "executable": "/bin/sh", "arguments": ["-c", script],
        "environment": {}, "input_sandboxes": [], "input_data": [], "output_sandbox": [], "output_data": [],
        "cores": 1, "memory_bytes": 200_000_000, "disk_bytes": 50_000_000, "wall_s": 60, "token": "", **changes,
    }  # fmt: skip
    new = Payload(assignment, server, Reports(server), workshop)  # type: ignore[arg-type]
    new.admit(new.share)
    return new


def output(tmp_path: Path) -> dict[str, Any]:
    place = {"se": "se", "pfn": "astro/result;1.1", "url": (tmp_path / "se" / "result;1.1").as_uri()}
    return {"path": "result", "lfn": "/astro/result", "places": [place], "failover": [], "required": True}


def test_outputs_stay_where_the_end_may_have_been_heard(tmp_path: Path, workshop: Workshop) -> None:
    """The catalog has them: its answer was lost, and then a heartbeat says that the job is done."""
    server = Witness()
    server.answers = False
    job = payload(server, workshop, output_data=[output(tmp_path)])
    server.at_end = lambda: job.lose("the job is done")
    job.run()
    assert [each["lfn"] for each in server.reports["1"]["outputs"]] == ["/astro/result"]
    assert (tmp_path / "se" / "result;1.1").read_text() == "x\n"


def test_outputs_of_a_job_that_was_taken_away_before_its_end_are_removed(
    tmp_path: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Witness()
    job = payload(server, workshop, output_data=[output(tmp_path)])
    deliver = outputs.deliver

    def deliver_late(*given: Any) -> list[dict[str, Any]]:
        told = deliver(*given)
        job.lose("killed")
        return told

    monkeypatch.setattr(outputs, "deliver", deliver_late)
    job.run()
    assert not server.reports
    assert not list((tmp_path / "se").iterdir())


@pytest.mark.parametrize(
    ("status", "code", "error_class"),
    [
        (410, "blob-gone", "data"),
        (403, "denied", "site"),
        (409, "stale-report", None),
        (410, "pilot-ended", None),
    ],
)
def test_a_sandbox_that_is_refused_is_told_unless_the_job_is_not_ours(
    workshop: Workshop, status: int, code: str, error_class: str | None
) -> None:
    server = Witness()
    server.refusal = Refused(status, code, "no", {})
    payload(server, workshop, input_sandboxes=[{"sandbox_id": 7}]).run()
    told = server.reports.get("1")
    assert (told and told["error_class"]) == error_class
    assert told is None or code in told["error"]


def test_an_error_of_the_pilot_itself_is_told(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("a secret")

    monkeypatch.setattr(outputs, "send_sandbox", fail)
    server = Witness()
    payload(server, workshop).run()
    told = server.reports["1"]
    assert (told["exit_code"], told["error_class"]) == (0, "site")
    assert "ValueError" in told["error"]
    assert "secret" not in told["error"]
