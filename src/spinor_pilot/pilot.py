"""The pilot's two loops: one asks for jobs while there is room, the other keeps the leases and hears of lost jobs."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from spinor_pilot import node
from spinor_pilot.guardian import Guardian
from spinor_pilot.payload import Payload
from spinor_pilot.server import GivenUp, Refused, Server, Unreachable, Untrusted

LONG_POLL_S = 20.0
BUSY_POLL_S = 5.0  # With payloads running: one that ends changes the offer.
MARGIN_S = 60.0  # Kept back at the end of the slot for the last reports.
LEAST_OFFER_S = 60.0  # With less than this no job is worth asking for.
SHORT_BEAT_S = 1.0
LAST_WAIT_S = 10.0  # For threads of payloads that were taken away, and for the good-bye.

_log = logging.getLogger("pilot")


class Slot:
    """What the computing element gave to this pilot, as the node confirms it."""

    def __init__(self, launch: dict[str, Any], base: Path) -> None:
        self.base = base
        self.cores = node.cores(launch["cores"])
        self.memory_bytes = node.memory_bytes(launch["memory_bytes"])
        self.tags: list[str] = launch.get("tags", [])
        self.ends = time.monotonic() + float(launch["wall_s"])
        self.idle_s = float(launch.get("idle_s", 15))
        self.grace_s = float(launch.get("grace_s", 20))

    @property
    def left_s(self) -> float:
        return self.ends - time.monotonic()

    def offer(self, payloads: list[Payload]) -> dict[str, Any]:
        """What is left beside these payloads."""
        return {
            "cores": max(0, self.cores - sum(payload.cores for payload in payloads)),
            "memory_bytes": max(0, self.memory_bytes - sum(payload.memory_bytes for payload in payloads)),
            "disk_bytes": node.disk_bytes(self.base),
            "wall_s": max(0, int(self.left_s - MARGIN_S)),
            "tags": self.tags,
        }


class Pilot:
    """Works until there is nothing to do, it is told to stop, or its slot ends. `work` returns the exit code."""

    def __init__(self, server: Server, guardian: Guardian, slot: Slot, heartbeat_s: float) -> None:
        self.server = server
        self.guardian = guardian
        self.slot = slot
        self.heartbeat_s = heartbeat_s
        self.draining = ""  # Why no more jobs are taken.
        self.hurried = False  # Somebody outside wants the slot back: only `grace_s` is left.
        self.dismissed = ""  # Why the server wants no more of this pilot.
        self._payloads: dict[tuple[int, int], Payload] = {}
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._failed = False

    def interrupt(self, signal_name: str) -> None:
        """Stop within the grace. Called from a signal's function, so it takes no lock and writes no log."""
        self.draining = self.draining or f"received {signal_name}"
        self.hurried = True

    def work(self) -> int:
        """Run payloads until the end; 0 when every one could be reported."""
        heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heart.start()
        # The question for jobs waits in a thread of its own, so that a signal is heard at once.
        taker = threading.Thread(target=self._keep_taking, name="matching", daemon=True)
        taker.start()
        while taker.is_alive() and not self.draining:
            taker.join(0.1)
        _log.info("no more jobs: %s", self.draining)
        self._see_off(self.slot.left_s - MARGIN_S / 2)
        self._over.set()
        if not self.dismissed:
            self._say_goodbye(self.draining)
        return 1 if self._failed or self.dismissed else 0

    def payloads(self) -> list[Payload]:
        with self._changed:
            return list(self._payloads.values())

    # ------------------------------------------------------------------------------------------------- taking jobs

    def _keep_taking(self) -> None:
        try:
            self._take_jobs()
        except Exception:  # Running payloads must still be seen off, whatever this was.
            _log.error("the pilot itself failed\n%s", traceback.format_exc())
            self.draining, self._failed = self.draining or "the pilot itself failed", True

    def _take_jobs(self) -> None:
        idle_since = time.monotonic()
        while not self.draining:
            running = self.payloads()
            offer = self.slot.offer(running)
            room = offer["cores"] >= 1 and offer["wall_s"] >= LEAST_OFFER_S
            if running:
                idle_since = time.monotonic()
            elif not room:
                self.draining = "the slot's wall time is nearly over"
            elif time.monotonic() - idle_since >= self.slot.idle_s:
                self.draining = f"no work for {self.slot.idle_s:.0f} s"
            if not self.guardian.alive:
                self.draining, self._failed = "the guardian process died", True
            if self.draining:
                return
            if room:
                self._match(offer, BUSY_POLL_S if running else min(LONG_POLL_S, self.slot.idle_s))
            else:
                self._wait_for_change(1.0)

    def _match(self, offer: dict[str, Any], wait_s: float) -> None:
        """Ask for jobs once, and start what comes."""
        asked = {"offer": offer, "max_jobs": offer["cores"], "wait_s": wait_s}
        try:
            answer = self.server.json(
                "POST",
                "/api/pilot/match",
                asked,
                wait_s=wait_s,
                given_up=lambda: bool(self.draining),
                patience_s=self.slot.idle_s,
            )
        except GivenUp:
            return
        except Unreachable:
            # Payloads wait for their server for an hour, and their results with them; a slot without any is given back.
            if not self.payloads():
                self.draining = "no work, and the server is away"
            return
        except (Refused, Untrusted) as error:
            self._dismiss(error)
            return
        if self.hurried:
            return  # Too late: the good-bye gives back what this answer brought.
        for assignment in answer["jobs"]:
            self._start(assignment)

    def _start(self, assignment: dict[str, Any]) -> None:
        payload = Payload(assignment, self.server, self.guardian, self.slot.base)
        _log.info("job %s taken: %s", payload.name, assignment["executable"])
        key = (payload.job_id, payload.attempt)
        with self._changed:
            self._payloads[key] = payload

        def run() -> None:
            try:
                payload.run()
            finally:
                with self._changed:
                    del self._payloads[key]
                    self._changed.notify_all()

        threading.Thread(target=run, name=f"job-{payload.name}", daemon=True).start()

    def _wait_for_change(self, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait(timeout_s)

    # ---------------------------------------------------------------------------------------------------- the heart

    def _beat(self) -> None:
        known: set[tuple[int, int]] = set()
        early = False
        while not self._over.is_set():
            held = self.payloads()
            now_held = {(payload.job_id, payload.attempt) for payload in held}
            # The server keeps the call until there is news. It can only tell of jobs named in the call, so after any
            # change, and after an early answer (which may mean that a job is on its way here), the next call is short.
            wait_s = self.heartbeat_s if now_held == known and not early else SHORT_BEAT_S
            known = now_held
            asked = {"held": [payload.usage() for payload in held], "wait_s": wait_s, "draining": bool(self.draining)}
            began = time.monotonic()
            try:
                answer = self.server.json(
                    "POST", "/api/pilot/heartbeat", asked, wait_s=wait_s, given_up=self._over.is_set
                )
            except GivenUp:
                return
            except (Refused, Untrusted, Unreachable) as error:
                if not self._over.is_set():
                    self._dismiss(error)
                return
            early = time.monotonic() - began < 0.9 * wait_s
            self._obey(answer)

    def _obey(self, answer: dict[str, Any]) -> None:
        if answer.get("token"):
            self.server.token = answer["token"]
        for lost in answer["lost"]:
            payload = self._find(lost["job_id"], lost["attempt"])
            if payload is not None:
                payload.lose(lost["reason"])
        if answer["drain"] and not self.draining:
            self.draining = "the server asks to drain"

    def _find(self, job_id: int, attempt: int) -> Payload | None:
        with self._changed:
            return self._payloads.get((job_id, attempt))

    def _dismiss(self, error: Exception) -> None:
        """The server will have nothing of this pilot any more: so its payloads are nobody's."""
        self.dismissed = str(error)
        _log.error("this pilot ends: %s", error)
        self.draining = self.draining or "the server does not accept this pilot"
        for payload in self.payloads():
            payload.lose(self.dismissed)

    # ------------------------------------------------------------------------------------------------------ the end

    def _see_off(self, patience_s: float) -> None:
        """Let payloads end; those that take too long are killed, and given back with the good-bye."""
        end = time.monotonic() + patience_s
        hurrying = False
        while self.payloads():
            if self.hurried and not hurrying:
                hurrying = True
                end = min(end, time.monotonic() + self.slot.grace_s)
            if time.monotonic() >= end:
                break
            self._wait_for_change(min(0.2, max(0.01, end - time.monotonic())))
        for payload in self.payloads():
            payload.lose("given back: the pilot has to stop")
        end = time.monotonic() + LAST_WAIT_S
        while self.payloads() and time.monotonic() < end:
            self._wait_for_change(0.2)

    def _say_goodbye(self, reason: str) -> None:
        _log.info("good-bye: %s", reason)
        try:
            self.server.json("POST", "/api/pilot/goodbye", {"reason": reason}, patience_s=LAST_WAIT_S)
        except (Refused, Untrusted, Unreachable) as error:
            _log.warning("the good-bye was not heard: %s", error)
