"""What becomes of uploaded outputs, by the answer to a job's last report."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spinor.pilots.push import results
from spinor_pilot.reports import Reports
from spinor_pilot.server import Refused, Server


class Answers(Server):
    """A server that gives these answers to reports, one after the other."""

    def __init__(self, *answers: Any) -> None:
        super().__init__("https://server.invalid")
        self.answers, self.reports = list(answers), list[dict[str, Any]]()

    def json(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        self.reports += body["ended"]
        answer = self.answers.pop(0)
        if isinstance(answer, Refused):
            raise answer
        return {"started": [], "ended": [{"status": answer}], "returned": []}


def refused(status: int, code: str, *, first: bool) -> Refused:
    answer = Refused(status, code, "so it is", {})
    answer.first = first
    return answer


@pytest.fixture
def hand_on(tmp_path: Path) -> Callable[[Server], str]:
    """Hand on a job that left one output, which goes to `tmp_path / "se" / "x"`."""
    home = tmp_path / "results" / "7.1"
    (home / "outputs" / "0").mkdir(parents=True)
    (home / "outputs" / "0" / "x").write_text("result\n")
    measured = {"lfn": "/astro/x", "sha256": hashlib.sha256(b"result\n").hexdigest()}
    report = {
        "job_id": 7, "attempt": 1, "exit_code": 0, "error": "", "error_class": None, "missing": [],
        "outputs": [measured], "output_sandbox_id": None,
    }  # fmt: skip
    (home / "ended.json").write_text(json.dumps(report))
    place = {"se": "local-se", "pfn": "/x", "url": (tmp_path / "se" / "x").as_uri()}
    output = {"path": "x", "lfn": "/astro/x", "places": [place], "failover": []}
    job = {"job_id": 7, "attempt": 1, "output_data": [output]}
    return lambda server: results.hand_on(server, Reports(server), job, tmp_path / "results")


def test_what_is_registered_stays(hand_on: Callable[[Server], str], tmp_path: Path) -> None:
    assert hand_on(Answers("done")) == "done"
    assert (tmp_path / "se" / "x").read_text() == "result\n"


def test_what_the_catalog_refuses_is_taken_back(hand_on: Callable[[Server], str], tmp_path: Path) -> None:
    assert hand_on(Answers("failed")) == "failed"
    assert not (tmp_path / "se" / "x").exists()


def test_outputs_that_cannot_be_registered_are_an_error_of_data(
    hand_on: Callable[[Server], str], tmp_path: Path
) -> None:
    server = Answers(refused(409, "file-exists", first=True), "failed")
    assert hand_on(server) == "failed"
    assert [(each["outputs"], each["error_class"]) for each in server.reports][1] == ([], "data")
    assert not (tmp_path / "se" / "x").exists()


@pytest.mark.parametrize(("status", "code"), [(410, "pilot-ended"), (409, "stale-report")])
def test_what_a_lost_answer_may_have_registered_stays(
    hand_on: Callable[[Server], str], tmp_path: Path, status: int, code: str
) -> None:
    """The first try was carried out and its answer lost; then the pilot was ended, and the second try is refused."""
    with pytest.raises(Refused, match=code):
        hand_on(Answers(refused(status, code, first=False), refused(status, code, first=True)))
    assert (tmp_path / "se" / "x").exists()
