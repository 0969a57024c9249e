"""Commands that jobs and sets of jobs have in common."""

from typing import Self

import msgspec

from spinor.client import Client
from spinor.errors import SpinorError
from spinor.jobs.client import refusals
from spinor.jobs.models import ChosenJobs, Outcome


class NotAllDone(SpinorError):
    """Some of the jobs refused the command."""

    status, code = 409, "not-all-done"

    @property
    def outcome(self) -> Outcome:
        """What was done, and what was refused and why."""
        found: Outcome = self.facts["outcome"]
        return found


class Commanded:
    """Jobs that can be told something. Each raises NotAllDone when some refuse; the others have done it then."""

    _client: Client

    def _chosen(self) -> ChosenJobs:
        raise NotImplementedError

    def kill(self, reason: str = "") -> Self:
        """Stop them, within seconds also those that run."""
        return self._command("kill", reason)

    def delete(self, reason: str = "") -> Self:
        """Kill what has not ended, and take them all out of the lists."""
        return self._command("delete", reason)

    def hold(self, reason: str = "") -> Self:
        """Keep what has not started from starting."""
        return self._command("hold", reason)

    def release(self, reason: str = "") -> Self:
        """Let go what was held."""
        return self._command("release", reason)

    def reschedule(self, reason: str = "") -> Self:
        """Run them again, each as a new attempt under its id."""
        return self._command("reschedule", reason)

    def prioritise(self, priority: int, reason: str = "") -> Self:
        """Give them another priority, 0 to 9; 9 goes first."""
        return self._command("prioritise", reason, priority=priority)

    def _command(self, verb: str, reason: str, **more: int) -> Self:
        chosen = self._chosen()
        if not any(msgspec.structs.astuple(chosen)):
            return self  # Nobody is told anything.
        body = {**msgspec.to_builtins(chosen), "reason": reason, **more}
        outcome = self._client.post(f"/api/jobs/{verb}", body, Outcome)
        if outcome.refused:
            sentences = refusals(outcome)
            rest = f" ({len(sentences) - 1} more reasons.)" if len(sentences) > 1 else ""
            raise NotAllDone(sentences[0] + rest, outcome=outcome, code=outcome.refused[0].code)
        return self
