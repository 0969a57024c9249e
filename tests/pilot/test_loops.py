"""The pilot's loops survive what comes their way, and a payload that was taken away is not asked for again."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spinor_pilot import limits, pilot
from spinor_pilot.children import Child, Start
from spinor_pilot.limits import Everybody, Watch
from spinor_pilot.pilot import Pilot
from spinor_pilot.slot import Slot

JOB = {"job_id": 7, "attempt": 1, "executable": "x", "cores": 1, "memory_bytes": 0, "disk_bytes": 0}
QUIET = {"lost": [], "drain": False}


class Peer:
    """In the server's place."""

    def __init__(self, answer: Callable[[str, Any], dict[str, Any]]) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._answer = answer

    def json(self, _method: str, path: str, body: Any = None, **_: Any) -> dict[str, Any]:
        self.asked.append((path, body))
        return self._answer(path, body)


class Work:
    """As much of a payload as the loops look at; it does not end when it is taken away."""

    job_id, attempt = 7, 1
    running = True
    elapsed_s = 0.0
    released = False
    watch = Watch(limits.of(0, 0, 1), "/", [])
    assignment = JOB

    def __init__(self) -> None:
        self.reason = ""
        self.looks = 0

    def is_lost(self) -> bool:
        return bool(self.reason)

    def lose(self, reason: str) -> None:
        self.reason = reason

    def usage(self, _: Everybody) -> dict[str, Any]:
        return {"job_id": 7, "attempt": 1}

    def look(self, _: Everybody) -> None:
        self.looks += 1


class Shop:
    """In the workshop's place."""

    class guardian:  # noqa: N801
        alive = True

    base = Path("/nowhere")


def at_work(tmp_path: Path, answer: Callable[[str, Any], dict[str, Any]], *payloads: Work) -> tuple[Pilot, Peer]:
    peer = Peer(answer)
    slot = Slot({"cores": 1, "memory_bytes": 1 << 30, "wall_s": 3600}, tmp_path)
    made = Pilot(peer, Shop(), slot, 1.0, {})  # type: ignore[arg-type]
    for number, payload in enumerate(payloads):
        made._payloads[7, 1 + number] = payload  # type: ignore[assignment]
    return made, peer


def test_a_payload_that_was_taken_away_is_not_named_again(tmp_path: Path) -> None:
    """It may take long to come to its end, and the server would answer each heartbeat at once."""

    def answer(_: str, body: Any) -> dict[str, Any]:
        if len(peer.asked) == 3:
            made._over.set()
        return {"lost": [{**held, "reason": "killed"} for held in body["held"]], "drain": False}

    work = Work()
    made, peer = at_work(tmp_path, answer, work)
    made._beat()
    assert work.reason == "killed"
    assert [len(body["held"]) for _, body in peer.asked] == [1, 0, 0]


def test_payloads_do_not_outlive_the_heartbeat(tmp_path: Path) -> None:
    """Their leases lapse without one, and others run their jobs."""
    work = Work()
    made, _ = at_work(tmp_path, lambda *_: {}, work)
    made._guarded(made._beat)
    assert work.reason
    assert made.draining
    assert not made.dismissed  # The good-bye still gives back what is left.


@pytest.mark.parametrize("why", ["closed", "hurried"])
def test_jobs_that_come_too_late_go_back(tmp_path: Path, why: str) -> None:
    def answer(path: str, _: Any) -> dict[str, Any]:
        if not path.endswith("/match"):
            return {}
        if why == "hurried":
            made.interrupt("SIGTERM")
        else:  # The server has asked to drain meanwhile, and nothing ran.
            made._see_off(0)
        return {"jobs": [JOB]}

    made, peer = at_work(tmp_path, answer)
    made._match({"cores": 1}, 0)
    assert not made.payloads()
    assert peer.asked[1:] == [
        ("/api/pilot/reports", {"started": [], "ended": [], "returned": [{"job_id": 7, "attempt": 1}]})
    ]


def test_the_watch_goes_on_when_the_disk_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    made, _ = at_work(tmp_path, lambda *_: QUIET, work)

    def failing(_: Path) -> int:
        if work.looks == 3:
            made._over.set()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(pilot, "WATCH_S", 0.01)
    monkeypatch.setattr("spinor_pilot.pilot.node.disk_bytes", failing)
    made._guarded(made._watch)
    assert work.looks == 3
    assert not made.draining


def test_a_payload_that_ends_under_a_look_disturbs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DISK_PERIOD_S", -1.0)
    start = Start(["x"], {}, str(tmp_path), "", "", "SPINOR_PAYLOAD=7.1-of-nobody")
    child = Child(None, 1, start)  # type: ignore[arg-type]
    child.pid = threading.get_native_id()
    assert Watch(limits.of(0, 0, 1), str(tmp_path / "gone"), []).look(child, Everybody()) is None
