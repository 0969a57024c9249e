"""One attempt of one job, from its inputs to its last report. A payload's fault never becomes the pilot's."""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import signal
import subprocess
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Optional

from spinor_pilot import containers, inputs, limits, outputs, streams
from spinor_pilot.children import Child, Start
from spinor_pilot.endings import STALE, take_back, tell_end
from spinor_pilot.faults import Fault, ImageFault, Lost, SiteFault, told
from spinor_pilot.isolation import Home
from spinor_pilot.limits import Everybody, Excess
from spinor_pilot.reports import NOT_HEARD, RETURNED, STARTED, Reports
from spinor_pilot.server import GivenUp, Refused, Server, Unreachable, Untrusted
from spinor_pilot.workplace import Share, Workshop

MISSING = frozenset({404, 410})
RETURN_S = 5.0  # How long the server may take to take a job back.
SUDDEN_S = 10.0  # A site error so soon after the beginning may mean that every other job ends here the same way.

_log = logging.getLogger("pilot")


class Payload:
    """Give it a thread and call `run`. It prepares itself, and begins when `admit` gives it a share of the slot.

    `admit`, `refuse`, `withdraw`, `lose` and `ask_to_stop` may be called from any other thread.
    """

    def __init__(self, assignment: dict[str, Any], server: Server, reports: Reports, workshop: Workshop) -> None:
        self.assignment = assignment
        self.job_id: int = assignment["job_id"]
        self.attempt: int = assignment["attempt"]
        wanted = limits.of(assignment["memory_bytes"], assignment["disk_bytes"], assignment["cores"])
        self.share = Share(wanted, (), [])  # What it will have, until it is admitted.
        self.name = f"{self.job_id}.{self.attempt}"
        self.home = Home(workshop.base / f"job-{self.name}")
        self.lost_because = ""
        self.released = False  # Its process has ended, so its share of the slot is free.
        self.site_error = ""  # How its attempt failed of the node itself.
        self.sudden = False
        self.ended_well = False
        self.watch = limits.Watch(wanted, str(self.home.path), [str(self.home.work), str(self.home.tmp)])
        self._server = server
        self._reports = reports
        self._workshop = workshop
        self._lost = threading.Event()
        self._turn = threading.Event()
        self._refusal: Optional[Fault] = None
        self._withdrawn = False
        self._child: Optional[Child] = None
        self._taken_at = time.monotonic()
        self._began = 0.0
        self._wall_s: Optional[float] = None
        self._excess: Optional[Excess] = None
        self._asked_to_stop = ""
        self._blames_node = True
        # Two services may each have a job of this number on this node, so the number alone does not mark its processes.
        self._mark = f"SPINOR_PAYLOAD={self.name}-{secrets.token_hex(8)}"
        self._uploaded: list[dict[str, Any]] = []
        self._told = False  # Its end is on the way or has arrived: the catalog may have its outputs.

    def admit(self, share: Share) -> None:
        """There is room for it now."""
        self.share = share
        self._turn.set()

    def refuse(self, fault: Fault) -> None:
        """It cannot run here; its report says why."""
        self._refusal = fault
        self._turn.set()

    def withdraw(self) -> None:
        """Give it back to the server before it begins. Not after `admit`."""
        self._withdrawn = True
        self._lost.set()
        self._turn.set()

    def lose(self, reason: str) -> None:
        """Kill the payload now and report nothing: the job is not ours any more."""
        if not self._lost.is_set():
            self.lost_because = reason
            self._lost.set()
            self._turn.set()
            _log.info("job %s is taken away: %s", self.name, reason)
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    def ask_to_stop(self, reason: str) -> None:
        """Send its stop signal: the slot ends soon. What does not end well then is given back, and not failed."""
        if not self._asked_to_stop and self._child is not None and not self.released:
            self._asked_to_stop = reason
            self._child.signal(self._stop_signal())

    def look(self, everybody: Everybody) -> None:
        """Called again and again while it runs: end it when it uses more than it may."""
        child = self._child
        if child is None or child.ended.is_set() or self._excess is not None:
            return
        self._excess = self.watch.look(child, everybody)
        if self._excess is not None:
            _log.info("job %s: %s", self.name, self._excess.text)
            child.signal(signal.SIGKILL)

    def end_for_disk(self) -> None:
        """The node's disk is nearly full, and this payload has the most on it."""
        if self._child is not None and self._excess is None:
            self._excess = Excess("site", "The disk of the node was nearly full, and this payload had the most on it.")
            self._child.signal(signal.SIGKILL)

    @property
    def elapsed_s(self) -> float:
        """How long its process has run, or did."""
        return self._elapsed()

    @property
    def running(self) -> bool:
        return self._child is not None and not self.released

    def usage(self, everybody: Everybody) -> dict[str, Any]:
        """What the payload has used so far, for a heartbeat."""
        child, watch = self._child, self.watch
        if child is not None and self._began and not child.ended.is_set():
            watch.measure(child, everybody)
        return {
            "job_id": self.job_id, "attempt": self.attempt, "cpu_s": max(watch.cpu_s, child.cpu_s if child else 0.0),
            "wall_s": self._elapsed(), "max_rss_bytes": watch.peak_bytes, "rss_bytes": watch.rss_bytes,
            "disk_bytes": watch.used_bytes, "read_bytes": watch.read_bytes, "written_bytes": watch.written_bytes,
        }  # fmt: skip

    def run(self) -> None:
        """Everything from the inputs to the last report. Raises nothing."""
        try:
            self._report(self._attempt())
        except (Lost, GivenUp):
            if not self._told:  # Too much does no harm: no other attempt writes to these addresses.
                self._forget_uploads()
            if self._withdrawn:
                self._return()
        except (Refused, Untrusted, Unreachable) as error:
            _log.error("job %s: %s", self.name, error)
        except Exception:  # The pilot must survive whatever this was; its log says what, and the lease ends the job.
            _log.error("job %s: the pilot itself failed\n%s", self.name, traceback.format_exc())
        finally:
            self.released = True
            _remove_tree(self.home.path)

    # ----------------------------------------------------------------------------------------- the attempt's steps

    def _attempt(self) -> dict[str, Any]:
        report: dict[str, Any] = {
            "job_id": self.job_id, "attempt": self.attempt, "exit_code": None, "error": "", "error_class": None,
            "missing": [], "outputs": [], "output_sandbox_id": None,
        }  # fmt: skip
        try:
            listed = self._prepare()
            self._check()
            self._execute(report, listed)
            self._keep(report)
        except Fault as fault:
            report["error"], report["error_class"] = str(fault), fault.error_class
            self._blames_node = not isinstance(fault, ImageFault)
        except OSError as error:
            report["error"], report["error_class"] = told("running the payload", error), "site"
        except Refused as refused:
            if refused.code in STALE:
                self.lose(str(refused))
                raise Lost from None
            report["error"], report["error_class"] = str(refused), "data" if refused.status in MISSING else "site"
        except (Lost, GivenUp, Untrusted, Unreachable):
            raise
        except Exception as error:  # Unreported, the job would idle here until its lease ends, and then elsewhere.
            _log.error("job %s: the pilot itself failed\n%s", self.name, traceback.format_exc())
            words = f"The pilot itself failed ({type(error).__name__}); its log says where."
            report["error"], report["error_class"] = words, "site"
        return report

    def _prepare(self) -> list[dict[str, Any]]:
        """Make its directories and fetch its inputs; the list of them."""
        try:
            self.home.make()
        except OSError as error:
            raise SiteFault(told("making the job's directory", error)) from error
        room = inputs.Room(self.share.limits.disk_bytes, self.is_lost)
        for sandbox in self.assignment["input_sandboxes"]:
            inputs.fetch_sandbox(self._server, self.assignment, sandbox, self.home.work, room)
        if self.assignment.get("input_policy") == "protocol":
            return inputs.where_they_are(self.assignment["input_data"])
        return inputs.fetch_data(self.assignment["input_data"], self.home.work, self._check)

    def _execute(self, report: dict[str, Any], listed: list[dict[str, Any]]) -> None:
        """Run the payload to its end, and write down how it ended."""
        if self.assignment.get("gpus"):
            self._await_turn()  # Its walls leave out the GPUs of others.
        start = self._workshop.start(self.assignment, self.share, self.home, listed, self._server)
        follower = streams.Follower(
            [self._stream("stdout"), self._stream("stderr")], f"log-{self.name}", self._announce
        )
        overtime = False
        try:
            self._child = child = self._workshop.guardian.prepare(start._replace(mark=self._mark))
            overtime = self._follow(child, follower)
        except OSError as error:
            raise Fault(told(f"starting {self.assignment['executable']!r}", error)) from error
        finally:
            self._wall_s = self._elapsed()
            containers.clean_up(start)
            self.released = True
            self._workshop.changed()
            if self._child is not None:
                self._child.ended.wait()
            follower.finish()
        self._check()
        self._explain(report, start, child, overtime)

    def _follow(self, child: Child, follower: streams.Follower) -> bool:
        """From its turn to its end; whether it ran into the end of its wall time."""
        try:
            self._await_turn()
            self._began = time.monotonic()
            child.go(self.share.cpus)
            if not child.over.wait(streams.PERIOD_S):  # Of one that has ended sooner, the last report tells all.
                follower.begin()
            return self._wait_for(child)
        except BaseException:
            child.signal(signal.SIGKILL)
            raise

    def _explain(self, report: dict[str, Any], start: Start, child: Child, overtime: bool) -> None:
        """Write down how the payload ended."""
        if child.error is not None:
            raise child.error  # It could not be killed.
        if child.code is None:
            # That is the pilot's trouble, not the job's: the pilot's good-bye gives it back, and it runs elsewhere.
            raise Lost("The pilot's guardian process died, and the payload with it.")
        report["exit_code"] = 128 - child.code if child.code < 0 else child.code
        if child.code == 0 and self._excess is None:
            return
        if self._excess is None and child.oom_kills:
            self._excess = limits.memory_excess(child.max_rss_bytes, self.share.limits.memory_bytes)
        if self._excess is None and not overtime and not self._asked_to_stop:
            self._excess = self._workshop.explain(start, self.home, self.share, child.code)
            self._blames_node = self._excess is None
        if self._excess is not None:
            report["error_class"], report["error"] = self._excess
        elif overtime:
            limit_s = self.assignment["wall_s"]
            report["error_class"] = "time"
            report["error"] = f"The payload ran longer than its wall time of {limit_s} s; ask for more with wall_s."
        elif self._asked_to_stop:
            self.lose(self._asked_to_stop)
            raise Lost
        elif child.code < 0:
            report["error"] = f"The payload was ended by signal {-child.code} ({_signal_name(-child.code)})."

    def _wait_for(self, child: Child) -> bool:
        """Whether the payload was asked to stop, since its wall time was nearly over, or was ended when it was."""
        limit_s = self.assignment["wall_s"]
        margin_s = min(self.assignment.get("stop_margin_s", 10), limit_s / 2)
        overtime = False
        while not child.over.is_set():
            if self.is_lost():
                child.signal(signal.SIGKILL)  # `lose` may have come between the start and our knowing of it.
            deadline_s = limit_s if overtime else limit_s - margin_s
            if child.over.wait(max(0.0, min(5.0, deadline_s - self._elapsed()))) or self._elapsed() < deadline_s:
                continue
            _log.info("job %s: the wall time of %s s is %s", self.name, limit_s, "over" if overtime else "nearly over")
            child.signal(signal.SIGKILL if overtime else self._stop_signal())
            if overtime:
                child.over.wait()
            overtime = True
        return overtime

    def _await_turn(self) -> None:
        self._turn.wait()
        self._check()
        if self._refusal is not None:
            raise self._refusal

    def _keep(self, report: dict[str, Any]) -> None:
        """Keep the output sandbox in any case, and output data of a payload that ended well."""
        for name in ("stdout", "stderr"):
            if self.assignment.get(name):
                outputs.copy_stream(self.home.path / name, str(self.home.work), self.assignment[name])
        most = self.share.limits.disk_bytes
        sandbox_id, missing = outputs.send_sandbox(self._server, self.assignment, self.home.work, most, self.is_lost)
        report["output_sandbox_id"], report["missing"] = sandbox_id, missing
        if report["exit_code"] != 0 or report["error"]:
            return
        for output in self.assignment["output_data"]:
            report["outputs"] += outputs.deliver(
                output, str(self.home.work), report["missing"], self._check, self._uploaded
            )

    def _report(self, report: dict[str, Any]) -> None:
        self._check()
        child = self._child
        if report["error"]:
            report["outputs"] = []
            self._forget_uploads()
        self.ended_well = report["exit_code"] == 0 and not report["error"]
        if report["error_class"] == "site" and self._blames_node:
            self.site_error, self.sudden = report["error"], time.monotonic() - self._taken_at < SUDDEN_S
        if child is not None:
            report.update(
                cpu_s=max(child.cpu_s, self.watch.cpu_s), wall_s=self._wall_s,
                max_rss_bytes=max(child.max_rss_bytes, self.watch.peak_bytes),
            )  # fmt: skip
        self._told = True
        tell_end(self._reports, report, self._uploaded, self.is_lost)
        _log.info("job %s ended: exit code %s %s", self.name, report["exit_code"], report["error"])

    # ----------------------------------------------------------------------------------------------------- details

    def is_lost(self) -> bool:
        return self._lost.is_set()

    def _check(self) -> None:
        if self._lost.is_set():
            raise Lost

    def _elapsed(self) -> float:
        if self._wall_s is not None:
            return self._wall_s
        return time.monotonic() - self._began if self._began else 0.0

    def _announce(self) -> None:
        """Tell that the payload runs."""
        try:
            self._reports.tell(STARTED, {"job_id": self.job_id, "attempt": self.attempt}, self.is_lost)
        except Refused as refused:
            if refused.code in STALE:
                self.lose(str(refused))
            raise

    def _return(self) -> None:
        try:
            self._reports.tell_within(RETURNED, {"job_id": self.job_id, "attempt": self.attempt}, RETURN_S)
            _log.info("job %s is given back unused", self.name)
        except NOT_HEARD as error:
            _log.warning("job %s was not given back: %s", self.name, error)

    def _forget_uploads(self) -> None:
        take_back(self._uploaded)

    def _stream(self, name: str) -> streams.Stream:
        path = self.home.path / name
        return streams.Stream(path, streams.to_job(self._server, self.job_id, self.attempt, name, self.is_lost))

    def _stop_signal(self) -> int:
        name = self.assignment.get("stop_signal", "SIGTERM")
        return getattr(signal.Signals, name, signal.SIGTERM)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _remove_tree(path: Path) -> None:
    """Remove also what a payload left without write permission, or nested deeper than Python goes; links are removed
    themselves, never followed."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)
    for argv in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
        if path.exists():
            with contextlib.suppress(OSError):
                subprocess.run([*argv, "--", str(path)], stderr=subprocess.DEVNULL, check=False)
