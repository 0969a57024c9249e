"""What is told of payloads: reports that come up while a request is under way leave together with the next one."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Optional

from spinor_pilot.server import GivenUp, Refused, Server, Unreachable, Untrusted

STARTED, ENDED, RETURNED = "started", "ended", "returned"
_MOST = 500  # In one request.
_LOOK_S = 0.5
_BUSY_S = 0.1  # Reports that follow each other so soon …
_GATHER_S = 0.015  # … are gathered for so long: nobody waits for them.


class _Letter:
    def __init__(self, kind: str, report: dict[str, Any]) -> None:
        self.kind, self.report = kind, report
        self.answered = threading.Event()
        self.dropped = False  # Nobody waits for its answer any more.
        self.status = ""
        self.error: Optional[Exception] = None


class Reports:
    """Any thread may `tell`, and waits for its own answer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._letters: list[_Letter] = []
        self._new = threading.Condition()
        self._sender: Optional[threading.Thread] = None

    def tell(self, kind: str, report: dict[str, Any], given_up: Callable[[], bool]) -> str:
        """Report, and wait for what the job is now. Raises what `Server.json` raises; the refusal of one does not touch
        the others."""
        letter = _Letter(kind, report)
        with self._new:
            self._letters.append(letter)
            self._new.notify()
            if self._sender is None:
                self._sender = threading.Thread(target=self._send, name="reports", daemon=True)
                self._sender.start()
        while not letter.answered.wait(_LOOK_S):
            if given_up():
                letter.dropped = True
                raise GivenUp
        if letter.error is not None:
            raise letter.error
        return letter.status

    def tell_within(self, kind: str, report: dict[str, Any], patience_s: float) -> str:
        end = time.monotonic() + patience_s
        return self.tell(kind, report, lambda: time.monotonic() > end)

    def _send(self) -> None:
        last = 0.0
        while True:
            with self._new:
                while not self._letters:
                    self._new.wait()
            if time.monotonic() - last < _BUSY_S:
                time.sleep(_GATHER_S)
            with self._new:
                letters, self._letters = self._letters[:_MOST], self._letters[_MOST:]
            self._deliver([letter for letter in letters if not letter.dropped])
            last = time.monotonic()

    def _deliver(self, letters: list[_Letter], tried_before: bool = False) -> None:
        if not letters:
            return

        def nobody_waits() -> bool:
            nonlocal tried_before
            tried_before = True  # It is asked between two tries only.
            return all(letter.dropped for letter in letters)

        body = {
            kind: [letter.report for letter in letters if letter.kind == kind] for kind in (STARTED, ENDED, RETURNED)
        }
        try:
            answers = self._server.json("POST", "/api/pilot/reports", body, given_up=nobody_waits)
            heard = [_read(answers[kind], len(body[kind])) for kind in body]
        except Refused as refused:
            if len(letters) > 1:  # One of them cannot even be read, and the others are not to blame.
                for letter in letters:
                    self._deliver([letter], tried_before or not refused.first)
                return
            refused.first = refused.first and not tried_before
            self._fail(letters, refused)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            # The reports may have been heard all the same.
            self._fail(letters, Unreachable(f"no answer to the reports can be read: {type(error).__name__}: {error}"))
        except Exception as error:
            self._fail(letters, error)
        else:
            for kind, said in zip(body, heard):
                told = [letter for letter in letters if letter.kind == kind]
                for letter, (status, refusal) in zip(told, said):
                    if refusal is not None:
                        refusal.first = not tried_before
                    letter.status, letter.error = status, refusal
                    letter.answered.set()

    @staticmethod
    def _fail(letters: list[_Letter], error: Exception) -> None:
        for letter in letters:
            letter.error = error
            letter.answered.set()


def _read(answers: list[dict[str, Any]], count: int) -> list[tuple[str, Optional[Refused]]]:
    """For each report what the job is now, or why it was refused."""
    if len(answers) != count:
        raise ValueError(f"{len(answers)} answers to {count} reports")
    return [(answer.get("status") or "", _refused(answer.get("refused"))) for answer in answers]


def _refused(answer: Optional[dict[str, Any]]) -> Optional[Refused]:
    return Refused(answer["status"], answer["code"], answer["detail"], answer) if answer else None


NOT_HEARD = (Refused, Untrusted, Unreachable, GivenUp)
