"""Pure decisions: how a pilot's state may change, how long to pause, when one counts as gone or a node as bad."""

from collections.abc import Mapping

import msgspec

from spinor.pilots.models import ElementState, Ending, Followed, PilotStatus

S = PilotStatus
ON_THE_WAY = frozenset({S.NEW, S.SUBMITTED, S.WAITING})
FINAL = frozenset({S.DONE, S.FAILED, S.ABORTED, S.DELETED})

# From each state, where it may go. The database compares and sets; this table says what it may set.
TRANSITIONS: Mapping[PilotStatus, frozenset[PilotStatus]] = {
    S.NEW: frozenset({S.SUBMITTED, S.RUNNING, S.ABORTED, S.DELETED}),
    S.SUBMITTED: frozenset({S.WAITING, S.RUNNING, S.ABORTED, S.DELETED}),
    S.WAITING: frozenset({S.RUNNING, S.ABORTED, S.DELETED}),
    S.RUNNING: frozenset({S.DONE, S.FAILED, S.ABORTED, S.DELETED}),
    **{state: frozenset() for state in FINAL},
}

PATIENT_BATCHES = 2  # So many fruitless batches of pilots in a row are normal: others took the jobs.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0
NEVER_SUBMITTED_S = 60.0  # An intent without an external id that is older was never carried out.
OVERTIME_S = 600.0  # Past its wall time, before the factory ends a pilot by force.


def pause_s(fruitless: int) -> float:
    """How long to wait after so many fruitless batches in a row, before the next pilot for that VO and element."""
    beyond = fruitless - PATIENT_BATCHES
    return 0.0 if beyond <= 0 else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(beyond - 1, 10))


def is_black_hole(failed: int, ended: int, enough: int) -> bool:
    """Whether a node swallows jobs: enough of them failed at once there, and hardly another one ended well."""
    return failed >= enough and failed * 10 >= ended * 9


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from a computing element's word about a pilot; at most one of these is set."""

    becomes: PilotStatus | None = None
    ends: Ending | None = None
    cancel: bool = False
    settled: bool = False  # It has ended, and the element agrees.


def judge(pilot: Followed, said: ElementState, wall_s: int) -> Verdict:
    """What a computing element's word means for a pilot."""
    if said is ElementState.UNKNOWN:
        return Verdict()
    if pilot.status in FINAL:
        there = said in (ElementState.WAITING, ElementState.RUNNING)
        return Verdict(cancel=there, settled=not there)
    if said is ElementState.WAITING:
        return Verdict(becomes=S.WAITING if pilot.status is S.SUBMITTED else None)
    if said is ElementState.RUNNING:
        return Verdict(cancel=pilot.running_s is not None and pilot.running_s > wall_s + OVERTIME_S)
    if pilot.status is S.RUNNING:
        # Its good-bye may be on the way: the process ends a moment after it, and we may have looked in between.
        ending = {ElementState.DONE: S.DONE, ElementState.FAILED: S.FAILED}.get(said, S.ABORTED)
        word = {S.DONE: "ended without a good-bye", S.FAILED: "ended with an error", S.ABORTED: "vanished"}[ending]
        return Verdict(ends=Ending(pilot_id=pilot.pilot_id, status=ending, reason=f"the pilot {word}"))
    return Verdict(
        ends=Ending(
            pilot_id=pilot.pilot_id,
            status=S.ABORTED,
            reason=f"the pilot ended before it enrolled (computing element: {said.value}); see its log",
        )
    )
