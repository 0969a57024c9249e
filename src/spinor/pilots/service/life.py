"""A pilot's life as it tells it: enrol, ask for jobs, hold them, leave."""

import hashlib
import logging

import msgspec

from spinor.access import Caller
from spinor.db import Tx
from spinor.errors import BadInput, Denied, SpinorError
from spinor.identity import service as identity
from spinor.identity.models import Issued, IssuedKind
from spinor.identity.tokens import Claims, KeyRing, caller_of_claims
from spinor.jobs import service as jobs
from spinor.pilots import store
from spinor.pilots.models import Ending, Enrolled, Enrolment, PilotStatus

TOKEN_LIFETIME_S = 86_400
PAYLOAD_TOKEN_SLACK_S = 3600.0  # For inputs and outputs, beside the payload's own wall time.
HEARTBEAT_S = 15.0
LEASE_S = 60.0  # Told to the pilot for its own judgement; the jobs system holds the leases.
NODE_LIMIT_BYTES = 64 * 1024
LOG_LIMIT_BYTES = 64 * 1024 * 1024

_log = logging.getLogger(__name__)


class EnrolmentRefused(Denied):
    """There is no pilot waiting for this enrolment."""

    code = "enrolment-refused"


class PilotEnded(SpinorError):
    """This pilot has ended for the server; its jobs were given back, and it must stop."""

    status, code = 410, "pilot-ended"


class NodeMasked(EnrolmentRefused):
    """Pilots of this node get no jobs for a while."""

    code = "node-masked"


async def enrol(tx: Tx, keys: KeyRing, issuer: str, asked: Enrolment) -> Enrolled | NodeMasked:
    """Turn the single-use secret into a token that can do nothing but act as this pilot.

    The secret is spent by the same statement that compares it. Each refusal is logged, since a second use can mean
    that somebody has read the secret. NodeMasked is given back and not raised: the pilot's end must be kept.
    """
    digest = hashlib.sha256(asked.secret.encode()).digest()
    hostname = str(asked.node.get("hostname", ""))[:255]
    if len(msgspec.json.encode(asked.node)) > NODE_LIMIT_BYTES:
        raise BadInput(f"node: at most {NODE_LIMIT_BYTES} bytes of JSON.", field="node")
    vo = await store.enrol(tx, asked, digest, hostname)
    if vo is None:
        found = await store.find_enrolment(tx, asked.pilot_id, digest)
        known = found is not None and found.known
        _log.warning(
            "enrolment-refused",
            extra={
                "pilot_id": asked.pilot_id,
                "hostname": hostname,
                "right_secret": known,
                "used_before": bool(known and found and found.enrolled),
                "pilot_status": found.status.value if found else None,
            },
        )
        # Who does not hold the right secret learns nothing, not even whether there is such a pilot.
        if found is None or not known:
            raise EnrolmentRefused
        if found.enrolled:
            raise EnrolmentRefused("This enrolment secret has been used before; a secret works once.")
        raise EnrolmentRefused(f"This pilot is {found.status.value} and cannot enrol any more.")
    if (mask := await store.find_mask(tx, asked.pilot_id)) is not None:
        reason = f"node {hostname} is masked: {mask}"
        ending = Ending(pilot_id=asked.pilot_id, status=PilotStatus.FAILED, reason=reason)
        await store.end_pilots(tx, [(PilotStatus.RUNNING, ending)])
        return NodeMasked(reason, hostname=hostname)
    token = identity.mint_pilot_token(keys, issuer, vo, asked.pilot_id, TOKEN_LIFETIME_S)
    facts = {"pilot_id": asked.pilot_id, "hostname": hostname}
    await identity.note_issued(tx, Issued(kind=IssuedKind.PILOT_TOKEN, client_id=identity.PILOT_CLIENT, facts=facts))
    return Enrolled(token=token, expires_in=TOKEN_LIFETIME_S, heartbeat_s=HEARTBEAT_S, lease_s=LEASE_S)


async def caller_of_pilot(tx: Tx, claims: Claims) -> Caller:
    """The pilot that a token names; PilotEnded when the server has given it up."""
    caller = await caller_of_claims(tx, claims)
    pilot = await store.find_slot(tx, caller)
    if pilot is None or pilot.ended:
        raise PilotEnded
    return caller


async def append_log(tx: Tx, caller: Caller, position: int, data: bytes) -> int:
    """Keep bytes of the pilot's own log; the position that is expected next.

    Bytes that are there already are skipped, and a gap is answered with the position where it begins. Past the limit,
    bytes are taken and forgotten: a pilot that was told to go back would send the same ones for ever.
    """
    end = await store.find_log_end(tx, caller)
    if end is None:
        raise PilotEnded
    after = position + len(data)
    if end >= LOG_LIMIT_BYTES:
        return max(after, end)
    if position > end or not data:
        return end
    new = data[end - position : LOG_LIMIT_BYTES - position]
    if new:
        await store.insert_log(tx, caller, end, new)
    return max(after, end)


async def say_goodbye(tx: Tx, caller: Caller, reason: str) -> None:
    """End the pilot and give back what it still holds. Saying it twice is harmless."""
    assert caller.pilot_id is not None
    if await store.say_goodbye(tx, caller, reason):
        await jobs.give_back_jobs_of_pilot(tx, caller, f"given back by its pilot: {reason}")
