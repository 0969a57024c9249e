"""One attempt of one job, from its inputs to its last report. A payload's fault never becomes the pilot's."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Optional

from spinor_pilot import inputs, outputs, streams, system
from spinor_pilot.faults import Fault, Lost, told
from spinor_pilot.guardian import Child, Guardian
from spinor_pilot.server import GivenUp, Refused, Server, Unreachable, Untrusted

KILL_AFTER_S = 10.0  # Between SIGTERM and SIGKILL when the wall time is over.
STALE = frozenset({404, 409, 410})  # What the server answers about an attempt that this pilot does not hold.
_HIDDEN = ("SPINOR_", "BEARER_TOKEN")  # Beginnings of names that are the pilot's own business.

_log = logging.getLogger("pilot")


class Payload:
    """Give it a thread and call `run`; `lose` may be called from any other thread, at any moment."""

    def __init__(self, assignment: dict[str, Any], server: Server, guardian: Guardian, base: Path) -> None:
        self.assignment = assignment
        self.job_id: int = assignment["job_id"]
        self.attempt: int = assignment["attempt"]
        self.cores: int = assignment["cores"]
        self.memory_bytes: int = assignment["memory_bytes"]
        self.name = f"{self.job_id}.{self.attempt}"
        self.home = base / f"job-{self.name}"
        self.work = self.home / "work"
        self.lost_because = ""
        self._server = server
        self._guardian = guardian
        self._lost = threading.Event()
        self._child: Optional[Child] = None
        self._began = 0.0
        self._wall_s: Optional[float] = None
        self._max_rss_bytes = 0
        # Two services may each have a job of this number on this node, so the number alone does not mark its processes.
        self._mark = f"SPINOR_PAYLOAD={self.name}-{secrets.token_hex(8)}"
        self._uploaded: list[dict[str, Any]] = []

    def lose(self, reason: str) -> None:
        """Kill the payload now and report nothing: the job is not ours any more."""
        if not self._lost.is_set():
            self.lost_because = reason
            self._lost.set()
            _log.info("job %s is taken away: %s", self.name, reason)
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    def usage(self) -> dict[str, Any]:
        """What the payload has used so far, for a heartbeat."""
        child, cpu_s = self._child, 0.0
        if child is not None and not child.ended.is_set():
            members = system.family(child.pid)
            cpu_s = sum(member.cpu_s for member in members)
            self._max_rss_bytes = max(self._max_rss_bytes, sum(member.rss_bytes for member in members))
        return {
            "job_id": self.job_id, "attempt": self.attempt, "cpu_s": max(cpu_s, child.cpu_s if child else 0.0),
            "wall_s": self._elapsed(), "max_rss_bytes": self._max_rss_bytes,
        }  # fmt: skip

    def run(self) -> None:
        """Everything from the inputs to the last report. Raises nothing."""
        try:
            self._report(self._attempt())
        except (Lost, GivenUp):
            self._forget_uploads()
        except (Refused, Untrusted, Unreachable) as error:
            _log.error("job %s: %s", self.name, error)
            # After a broken connection nobody knows whether the try before registered the outputs: they stay then.
            if isinstance(error, Refused) and error.first:
                self._forget_uploads()
        except Exception:  # The pilot must survive whatever this was; its log says what, and the lease ends the job.
            _log.error("job %s: the pilot itself failed\n%s", self.name, traceback.format_exc())
        finally:
            self._server.close()
            _remove_tree(self.home)

    # ----------------------------------------------------------------------------------------- the attempt's steps

    def _attempt(self) -> dict[str, Any]:
        report: dict[str, Any] = {"exit_code": None, "error": "", "missing": [], "outputs": []}
        try:
            self._prepare()
            self._check()
            self._server.json("POST", self._address("start"), {"attempt": self.attempt}, given_up=self.is_lost)
            report["exit_code"], report["error"] = self._execute()
            self._keep(report)
        except Fault as fault:
            report["error"] = str(fault)
        except OSError as error:
            report["error"] = told("running the payload", error)
        except Refused as refused:
            if refused.status in STALE:
                self.lose(str(refused))
                raise Lost from None
            report["error"] = str(refused)
        return report

    def _prepare(self) -> None:
        self.work.mkdir(parents=True)
        os.chmod(self.home, 0o700)
        for sandbox in self.assignment["input_sandboxes"]:
            inputs.fetch_sandbox(self._server, self.assignment, sandbox, self.work, self.is_lost)
        listed = inputs.fetch_data(self.assignment["input_data"], self.work, self._check)
        (self.home / "inputs.json").write_text(json.dumps(listed), encoding="utf-8")

    def _execute(self) -> tuple[int, str]:
        """Run the payload to its end; its exit code (128 + signal when one ended it) and what is wrong with it."""
        out, err = (self._stream(name) for name in ("stdout", "stderr"))
        follower = streams.Follower([out, err], f"log-{self.name}")
        try:
            self._began = time.monotonic()
            argv = [self._executable(), *self.assignment["arguments"]]
            self._child = child = self._guardian.run(
                argv, self._environment(), str(self.work), str(out.path), str(err.path), self._mark
            )
            overtime = self._wait_for(child)
        except OSError as error:
            raise Fault(told(f"starting {self.assignment['executable']!r}", error)) from error
        finally:
            self._wall_s = self._elapsed()
            follower.finish()
        self._check()
        if child.code is None:
            # That is the pilot's trouble, not the job's: the pilot's good-bye gives it back, and it runs elsewhere.
            raise Lost("The pilot's guardian process died, and the payload with it.")
        if overtime:
            limit_s = self.assignment["wall_s"]
            return _plain(
                child.code
            ), f"The payload ran longer than its wall time of {limit_s} s; ask for more with wall_s."
        if child.code < 0:
            return _plain(child.code), f"The payload was ended by signal {-child.code} ({_signal_name(-child.code)})."
        return child.code, ""

    def _wait_for(self, child: Child) -> bool:
        """Whether the wall time was over before the payload was."""
        limit_s = self.assignment["wall_s"]
        while not child.ended.is_set():
            if self.is_lost():
                child.signal(signal.SIGKILL)  # `lose` may have come between the start and our knowing of it.
            child.ended.wait(max(0.0, min(5.0, limit_s - self._elapsed())))
            if not child.ended.is_set() and self._elapsed() >= limit_s:
                _log.info("job %s: the wall time of %s s is over", self.name, limit_s)
                child.signal(signal.SIGTERM)
                if not child.ended.wait(KILL_AFTER_S):
                    child.signal(signal.SIGKILL)
                    child.ended.wait()
                return True
        return False

    def _keep(self, report: dict[str, Any]) -> None:
        """Keep the output sandbox in any case, and output data of a payload that ended well."""
        sandbox_id, report["missing"] = outputs.send_sandbox(self._server, self.assignment, self.work, self.is_lost)
        report["output_sandbox_id"] = sandbox_id
        if report["exit_code"] != 0 or report["error"]:
            return
        for output in self.assignment["output_data"]:
            self._uploaded.append(output)
            report["outputs"].append(outputs.upload(output, self.work, self._check))

    def _report(self, report: dict[str, Any]) -> None:
        self._check()
        child = self._child
        if report["error"]:
            report["outputs"] = []
            self._forget_uploads()
        if child is not None:
            peak_bytes = max(child.max_rss_bytes, self._max_rss_bytes)
            report.update(cpu_s=child.cpu_s, wall_s=self._wall_s, max_rss_bytes=peak_bytes)
        report["attempt"] = self.attempt
        try:
            ended = self._server.json("POST", self._address("finish"), report)
            if ended.get("status") == "failed":
                self._forget_uploads()  # The catalog refused them.
        except Refused as refused:
            if refused.code == "stale-report" or not report["outputs"]:
                raise
            # The outputs cannot be registered, for example because another job has taken an LFN: the owner must hear.
            report["error"] = f"The outputs could not be registered: {refused}"
            report["outputs"] = []
            self._server.json("POST", self._address("finish"), report)
            self._forget_uploads()
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

    def _forget_uploads(self) -> None:
        for output in self._uploaded:
            outputs.remove(output)
        self._uploaded.clear()

    def _address(self, verb: str) -> str:
        return f"/api/pilot/jobs/{self.job_id}/{verb}"

    def _stream(self, name: str) -> streams.Stream:
        path = self.home / name
        path.touch()
        return streams.Stream(path, streams.to_job(self._server, self.job_id, self.attempt, name, self.is_lost))

    def _executable(self) -> str:
        name: str = self.assignment["executable"]
        own = self.work / name
        if name.startswith("/") or not own.is_file():
            return name
        # What arrived in a sandbox may have lost its permission on the way.
        if not own.is_symlink():
            os.chmod(own, own.stat().st_mode | 0o700)
        return str(own)

    def _access(self) -> dict[str, str]:
        """How the payload finds the service: with a token of its own, which ends with this attempt."""
        token, ca = self.home / "token", self.home / "ca.pem"
        with open(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(self.assignment["token"])
        found = {"SPINOR_URL": self._server.url, "BEARER_TOKEN_FILE": str(token)}
        if self._server.ca_pem:
            ca.write_text(self._server.ca_pem, encoding="ascii")
            found["SPINOR_CA_FILE"] = str(ca)
        return found

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
        kept.update(self.assignment["environment"])
        kept.update(
            SPINOR_JOB_ID=str(self.job_id), SPINOR_ATTEMPT=str(self.attempt), SPINOR_VO=self.assignment["vo"],
            SPINOR_OWNER=self.assignment["owner"], SPINOR_CORES=str(self.cores),
            SPINOR_MEMORY_BYTES=str(self.memory_bytes), SPINOR_WALL_S=str(self.assignment["wall_s"]),
            SPINOR_INPUTS=str(self.home / "inputs.json"), PWD=str(self.work), OMP_NUM_THREADS=str(self.cores),
        )  # fmt: skip
        kept.update(self._access())
        if self.assignment.get("array_index") is not None:
            kept["SPINOR_ARRAY_INDEX"] = str(self.assignment["array_index"])
        return kept


def _plain(code: int) -> int:
    return 128 - code if code < 0 else code


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _remove_tree(path: Path) -> None:
    """Remove also what a payload left without write permission."""
    for directory, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(directory, name)
            if not os.path.islink(inner):
                with contextlib.suppress(OSError):
                    os.chmod(inner, 0o700)
    shutil.rmtree(path, ignore_errors=True)
