"""The pilot's loops: one asks for jobs while there is room, one keeps the leases, one watches what payloads use."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from typing import Any, Callable, Optional

from spinor_pilot import fitness, limits, node, peeks
from spinor_pilot.faults import Fault, told
from spinor_pilot.hand import Hand
from spinor_pilot.payload import Payload
from spinor_pilot.reports import ENDED, RETURNED, STARTED, Reports
from spinor_pilot.server import GivenUp, Refused, Server, Unreachable, Untrusted
from spinor_pilot.slot import MARGIN_S, Slot
from spinor_pilot.workplace import Workshop

LONG_POLL_S = 20.0
BUSY_POLL_S = 5.0  # With payloads running: one that ends changes the offer.
LEAST_OFFER_S = 60.0  # With less than this no job is worth asking for.
SHORT_BEAT_S = 1.0
WATCH_S = 0.5
LAST_WAIT_S = 10.0  # For threads of payloads that were taken away, and for the good-bye.

_log = logging.getLogger("pilot")


class Pilot:
    """Works until there is nothing to do, it is told to stop, or its slot ends. `work` returns the exit code."""

    def __init__(
        self, server: Server, workshop: Workshop, slot: Slot, heartbeat_s: float, wanted: dict[str, Any]
    ) -> None:
        self.server = server
        self.workshop = workshop
        self.slot = slot
        self.heartbeat_s = heartbeat_s
        self.draining = ""  # Why no more jobs are taken.
        self.hurried = False  # Somebody outside wants the slot back: only `grace_s` is left.
        self.dismissed = ""  # Why the server wants no more of this pilot.
        self.unfit: list[dict[str, str]] = []
        self._wanted = wanted  # Of the node, beside what every payload needs.
        self._reports = Reports(server)
        self._payloads: dict[tuple[int, int], Payload] = {}
        self._hand = Hand(slot.cores)
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._failed = False
        self._closed = False  # What comes now is not begun any more.
        self._bad_in_a_row = 0
        self._peeking: set[int] = set()
        workshop.changed = self._release

    def interrupt(self, signal_name: str) -> None:
        """Stop within the grace. Called from a signal's function, so it takes no lock and writes no log."""
        self.draining = self.draining or f"received {signal_name}"
        self.hurried = True

    def work(self) -> int:
        """Run payloads until the end; 0 when every one could be reported."""
        # The question for jobs waits in a thread of its own, so that a signal is heard at once.
        taker = threading.Thread(target=self._guarded, args=(self._take_jobs,), name="matching", daemon=True)
        for target, name in ((self._beat, "heartbeat"), (self._watch, "watch")):
            threading.Thread(target=self._guarded, args=(target,), name=name, daemon=True).start()
        taker.start()
        while taker.is_alive() and not self.draining:
            taker.join(0.1)
        _log.info("no more jobs: %s", self.draining)
        self._see_off(self.slot.left_s - MARGIN_S / 2)
        self._over.set()
        if self.unfit and not self.dismissed:
            self.tell_unfit()
        if not self.dismissed:
            self._say_goodbye(self.draining)
        return 1 if self._failed or self.dismissed else 0

    def payloads(self) -> list[Payload]:
        with self._changed:
            return list(self._payloads.values())

    # ------------------------------------------------------------------------------------------------- taking jobs

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except Exception:  # Running payloads must still be seen off, whatever this was.
            _log.error("the pilot itself failed\n%s", traceback.format_exc())
            self.draining, self._failed = self.draining or "the pilot itself failed", True
            if loop == self._beat:  # Their leases lapse, and nobody would hear that others run them now.
                self._lose_all("the pilot's heart failed")

    def _take_jobs(self) -> None:
        idle_since = time.monotonic()
        while not self.draining:
            offer = self._offer()
            busy = bool(self.payloads())
            room = offer["cores"] >= 1 and offer["wall_s"] >= LEAST_OFFER_S
            if busy:
                idle_since = time.monotonic()
            elif offer["wall_s"] < LEAST_OFFER_S:
                self.draining = "the slot's wall time is nearly over"
            elif time.monotonic() - idle_since >= self.slot.idle_s:
                self.draining = f"no work for {self.slot.idle_s:.0f} s"
            if not self.workshop.guardian.alive:
                self.draining, self._failed = "the guardian process died", True
            if self.draining:
                return
            if room:
                self._match(offer, BUSY_POLL_S if busy else min(LONG_POLL_S, self.slot.idle_s))
            else:
                self._wait_for_change(1.0)

    def _offer(self) -> dict[str, Any]:
        """What is free; while payloads are brief, also what will be free in a moment, in portions of a whole slot."""
        with self._changed:
            jobs = self._hand.assignments()
            ahead = self._hand.ahead([payload.elapsed_s for payload in self._payloads.values() if payload.running])
        free = self.slot.offer(jobs)
        more = self.slot.offer(jobs, ahead) if ahead else free
        return more if more["cores"] == self.slot.cores else free

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
            # Payloads wait for their server for hours, and their results with them; a slot without any is given back.
            if not self.payloads():
                self.draining = "no work, and the server is away"
            return
        except (Refused, Untrusted) as error:
            self._dismiss(error)
            return
        with self._changed:
            late = self._closed or self.hurried
            if not late:
                for assignment in answer["jobs"]:
                    self._take(assignment)
        if late:
            self._decline(answer["jobs"])
        else:
            self._begin()

    def _decline(self, assignments: list[dict[str, Any]]) -> None:
        """Give back jobs that came too late to begin. Where this is not heard, the good-bye gives them back."""
        if not assignments or self.dismissed:
            return
        jobs = [{"job_id": each["job_id"], "attempt": each["attempt"]} for each in assignments]
        body = {STARTED: [], ENDED: [], RETURNED: jobs}
        try:
            self.server.json("POST", "/api/pilot/reports", body, patience_s=LAST_WAIT_S)
        except (Refused, Untrusted, Unreachable) as error:
            _log.warning("jobs that came too late were not given back: %s", error)

    def _take(self, assignment: dict[str, Any]) -> None:
        """Let a job prepare itself; it waits in the hand for its share of the slot."""
        payload = Payload(assignment, self.server, self._reports, self.workshop)
        _log.info("job %s taken: %s", payload.name, assignment["executable"])
        with self._changed:
            self._payloads[payload.job_id, payload.attempt] = payload
            self._hand.add(payload)
        threading.Thread(target=self._run, args=(payload,), name=f"job-{payload.name}", daemon=True).start()

    def _begin(self) -> None:
        """Admit the jobs in hand for which there is room."""
        with self._changed:
            while (payload := self._hand.next(self.slot.has_room)) is not None:
                try:
                    payload.admit(self.slot.take(payload.assignment))
                except Fault as fault:
                    payload.refuse(fault)

    def _give_back(self) -> None:
        """What is in hand goes back to the server: nobody knows when there is room for it."""
        with self._changed:
            self._hand.forget_ends()
            for payload in self._hand.empty():
                payload.withdraw()

    def _run(self, payload: Payload) -> None:
        try:
            payload.run()
        finally:
            self._release()
            self._judge(payload)
            with self._changed:
                if payload.ended_well:
                    self._hand.note_end(payload.elapsed_s)
                else:  # Nobody should take jobs in advance to a node where they fail.
                    self._hand.forget_ends()
                del self._payloads[payload.job_id, payload.attempt]
                self._changed.notify_all()

    def _release(self) -> None:
        """Parts of the slot become free as soon as a payload has ended, while its results are still on their way."""
        for payload in self.payloads():
            if payload.released:
                self.slot.give_back(payload.share)
        if not self.draining:
            self._begin()
        with self._changed:
            self._changed.notify_all()

    def _wait_for_change(self, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait(timeout_s)

    # ------------------------------------------------------------------------------------------ the node's condition

    def _judge(self, payload: Payload) -> None:
        """After an error of the node itself, look whether any other payload should come here."""
        if not payload.site_error:
            self._bad_in_a_row = 0
            return
        self._bad_in_a_row = self._bad_in_a_row + 1 if payload.sudden else 0
        found = fitness.diagnosis(self.slot.base, self._wanted, self.server.ahead_s)
        if not found and self._bad_in_a_row >= fitness.IN_A_ROW:
            detail = f"{self._bad_in_a_row} payloads in a row failed at once, the last one of: {payload.site_error}"
            found = [{"check": "payloads", "detail": detail}]
        if found and not self.unfit:
            self.unfit = found
            self.draining = self.draining or f"the node is unfit: {found[0]['check']}: {found[0]['detail']}"

    def tell_unfit(self) -> None:
        for problem in self.unfit:
            _log.error("the node is unfit: %s: %s", problem["check"], problem["detail"])
        try:
            self.server.json("POST", "/api/pilot/unfit", {"diagnosis": self.unfit}, patience_s=LAST_WAIT_S)
        except (Refused, Untrusted, Unreachable) as error:
            _log.warning("the diagnosis was not heard: %s", error)

    def _watch(self) -> None:
        """See that nobody uses more than its share."""
        while not self._over.wait(WATCH_S):
            with self._changed:
                late = self._hand.late
            if late:
                self._give_back()
            running = [payload for payload in self.payloads() if payload.running]
            if not running:
                continue
            everybody = limits.Everybody()
            for payload in running:
                payload.look(everybody)
            try:
                nearly_full = node.disk_bytes(self.slot.base) < limits.RESERVE_BYTES / 2
            except OSError as error:  # The other limits must still be watched.
                _log.warning("%s", told("looking at the free space of the disk", error))
                continue
            if nearly_full:
                max(running, key=lambda payload: payload.watch.used_bytes).end_for_disk()

    # ---------------------------------------------------------------------------------------------------- the heart

    def _beat(self) -> None:
        known: set[tuple[int, int]] = set()
        early = False
        while not self._over.is_set():
            # The server would answer at once, again and again, while one that was taken away comes to its end.
            held = [payload for payload in self.payloads() if not payload.is_lost()]
            now_held = {(payload.job_id, payload.attempt) for payload in held}
            # The server keeps the call until there is news. It can only tell of jobs named in the call, so after any
            # change, and after an early answer (which may mean that a job is on its way here), the next call is short.
            wait_s = self.heartbeat_s if now_held == known and not early else SHORT_BEAT_S
            known = now_held
            everybody = limits.Everybody()
            usage = [payload.usage(everybody) for payload in held]
            asked = {"held": usage, "wait_s": wait_s, "draining": bool(self.draining)}
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
            took_s = time.monotonic() - began
            early = took_s < 0.9 * wait_s
            self._obey(answer)
            if early and not answer["lost"]:
                self._over.wait(max(0.0, SHORT_BEAT_S - took_s))  # Many short jobs make much news, and none of it bad.

    def _obey(self, answer: dict[str, Any]) -> None:
        if answer.get("token"):
            self.server.token = answer["token"]
        for lost in answer["lost"]:
            payload = self._find(lost["job_id"], lost["attempt"])
            if payload is not None:
                payload.lose(lost["reason"])
        for asked in answer.get("peeks") or []:
            if asked["peek_id"] not in self._peeking:
                self._peeking.add(asked["peek_id"])
                threading.Thread(target=self._peek, args=(asked,), name="peek", daemon=True).start()
        if answer["drain"] and not self.draining:
            self.draining = "the server asks to drain"

    def _peek(self, asked: dict[str, Any]) -> None:
        payload = self._find(asked["job_id"], asked["attempt"])
        top = str(payload.home.work) if payload is not None and payload.home.work.is_dir() else None
        try:
            body = peeks.answer(top, asked)
            self.server.json("PUT", f"/api/pilot/jobs/{asked['job_id']}/peek", body, patience_s=LAST_WAIT_S)
        except (Refused, Untrusted, Unreachable) as error:
            _log.info("peek %s was not answered: %s", asked["peek_id"], error)
        finally:
            self._peeking.discard(asked["peek_id"])

    def _find(self, job_id: int, attempt: int) -> Optional[Payload]:
        with self._changed:
            return self._payloads.get((job_id, attempt))

    def _dismiss(self, error: Exception) -> None:
        """The server will have nothing of this pilot any more: so its payloads are nobody's."""
        self.dismissed = str(error)
        _log.error("this pilot ends: %s", error)
        self.draining = self.draining or "the server does not accept this pilot"
        self._lose_all(self.dismissed)

    def _lose_all(self, reason: str) -> None:
        with self._changed:
            self._closed = True
        for payload in self.payloads():
            payload.lose(reason)

    # ------------------------------------------------------------------------------------------------------ the end

    def _see_off(self, patience_s: float) -> None:
        """Let payloads end; those that take too long are asked to, then killed, and given back with the good-bye."""
        end = time.monotonic() + patience_s
        hurrying = False
        while not self._done():
            self._give_back()
            if self.hurried and not hurrying:
                hurrying = True
                end = min(end, time.monotonic() + self.slot.grace_s)
            now = time.monotonic()
            if now >= end:
                break
            for payload in self.payloads():
                if now >= end - min(payload.assignment.get("stop_margin_s", 10), self.slot.grace_s / 2):
                    payload.ask_to_stop("given back: the pilot has to stop")
            self._wait_for_change(min(0.2, max(0.01, end - now)))
        with self._changed:
            self._closed = True
        self._lose_all("given back: the pilot has to stop")
        end = time.monotonic() + LAST_WAIT_S
        while self.payloads() and time.monotonic() < end:
            self._wait_for_change(0.2)

    def _done(self) -> bool:
        """Whether no payload is left; then none begins any more."""
        with self._changed:
            self._closed = self._closed or not self._payloads
            return not self._payloads

    def _say_goodbye(self, reason: str) -> None:
        _log.info("good-bye: %s", reason)
        try:
            self.server.json("POST", "/api/pilot/goodbye", {"reason": reason}, patience_s=LAST_WAIT_S)
        except (Refused, Untrusted, Unreachable) as error:
            _log.warning("the good-bye was not heard: %s", error)
