"""Pure decisions: which status may follow which, what each lets happen, when the next probe is due."""

from collections.abc import Mapping

from spinor.errors import Conflict
from spinor.resources.models import FitnessPolicy
from spinor.resources.status.models import Decided, Present, Status

S = Status

# What is banned or suspect comes back by a probe alone: from `probing`, nobody but a probe leads to `active`.
TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    S.ACTIVE: frozenset({S.DEGRADED, S.PROBING, S.DRAINING, S.BANNED}),
    S.DEGRADED: frozenset({S.ACTIVE, S.PROBING, S.DRAINING, S.BANNED}),
    S.PROBING: frozenset({S.ACTIVE, S.BANNED}),
    S.DRAINING: frozenset({S.ACTIVE, S.DEGRADED, S.PROBING, S.BANNED}),
    S.BANNED: frozenset({S.PROBING}),
}

SERVICE = "spinor"  # The actor of what nobody asked for.
_ORDER = list(Status)
USABLE = frozenset({S.ACTIVE, S.DEGRADED})  # Jobs and pilots go there.

FIRST_PROBE_PAUSE_S, LONGEST_PROBE_PAUSE_S = 60.0, 6 * 3600.0


class StatusRefused(Conflict):
    """The present status does not allow this."""

    code = "status-refused"


def worst(one: Status, other: Status) -> Status:
    return max(one, other, key=_ORDER.index)


def decide(present: Present, wanted: Status, reason: str, actor: str) -> Decided:
    """What a person's wish makes of what is there; StatusRefused when it cannot be."""
    old = present.status
    becomes = S.PROBING if wanted is S.ACTIVE and old in (S.BANNED, S.PROBING) else wanted
    if old is S.ACTIVE and wanted is S.ACTIVE:
        raise StatusRefused(f"{present.name} is active already.", name=present.name)
    if present.access is not None:
        return _of_storage(present, wanted, reason, actor)
    if becomes is not old and becomes not in TRANSITIONS[old]:
        raise StatusRefused(
            f"{present.name} is {old.value} and cannot become {wanted.value}: only a successful probe brings it back. "
            "`resume` asks for one.",
            name=present.name,
        )
    if becomes is S.PROBING and not present.with_elements:
        becomes = S.ACTIVE  # Nothing can probe a site without computing elements.
    failed = present.failed_probes if old is S.PROBING and becomes is S.PROBING else 0
    probe_in_s = 0.0 if becomes is S.PROBING else None
    return Decided(
        name=present.name, status=becomes, reason=reason, actor=actor, failed_probes=failed, probe_in_s=probe_in_s
    )


def _of_storage(present: Present, wanted: Status, reason: str, actor: str) -> Decided:
    """Nothing probes a storage element by itself: whoever looks after it does, and decides."""
    if wanted is S.DRAINING:
        raise StatusRefused(
            f"{present.name} is a storage element, which does not drain: ban it for writing.", name=present.name
        )
    return Decided(name=present.name, access=present.access, status=wanted, reason=reason, actor=actor)


def after_probe(present: Present, *, succeeded: bool, reason: str, actor: str) -> Decided | None:
    """What a probe's end makes of a site or element; nothing unless it is waiting for a probe."""
    if present.status is not S.PROBING:
        return None
    if succeeded:
        return Decided(name=present.name, status=S.ACTIVE, reason=reason, actor=actor)
    failed = present.failed_probes + 1
    return Decided(
        name=present.name,
        status=S.PROBING,
        reason=reason,
        actor=actor,
        failed_probes=failed,
        probe_in_s=probe_pause_s(failed),
    )


def after_routine_probe(present: Present, policy: FitnessPolicy, *, succeeded: bool, reason: str) -> Decided | None:
    """What a probe that nobody asked for makes of an element in use; nothing where a person has set what holds."""
    mine = present.status is S.ACTIVE or (present.status is S.DEGRADED and present.actor == SERVICE)
    if not mine or (succeeded and present.status is S.ACTIVE and not present.failed_probes):
        return None
    if succeeded:
        return Decided(name=present.name, status=S.ACTIVE, reason=reason, actor=SERVICE)
    failed = present.failed_probes + 1
    return Decided(
        name=present.name,
        status=S.DEGRADED if failed >= policy.probe_failures else present.status,
        reason=reason,
        actor=SERVICE,
        failed_probes=failed,
        probe_in_s=min(probe_pause_s(failed), float(policy.probe_every_s or LONGEST_PROBE_PAUSE_S)),
    )


def probe_pause_s(failed: int) -> float:
    """How long to wait after so many failed probes in a row."""
    return min(LONGEST_PROBE_PAUSE_S, FIRST_PROBE_PAUSE_S * 2.0 ** min(max(0, failed - 1), 20))


def at_its_end(present: Present, actor: str) -> Decided:
    """What follows when the time is over for which a status was set."""
    probes = present.status is S.BANNED and present.with_elements
    return Decided(
        name=present.name,
        access=present.access,
        status=S.PROBING if probes else S.ACTIVE,
        reason="its time is over",
        actor=actor,
        probe_in_s=0.0 if probes else None,
    )
