"""Requests that come twice: a client whose answer was lost asks again under the same key, and gets the first answer.

For verbs that are not idempotent by themselves: what was removed or moved cannot be removed or moved again. The answer
is kept in the transaction of the change, so that there is no moment at which one holds without the other.
"""

from spinor.access import Caller
from spinor.db import Queries, Tx, execute, fetch_rows
from spinor.errors import Conflict

Q = Queries("spinor.repeats")
MAX_KEPT_BYTES = 1 << 20
KEPT_S = 86_400


class AnswerNotKept(Conflict):
    """This request was carried out before; its answer was too large to be kept. Look at the result instead."""

    code = "answer-not-kept"


async def earlier_answer(tx: Tx, caller: Caller, key: str, path: str) -> bytes | None:
    """The answer that this request got before. Whoever sends the same key meanwhile waits until this one has ended."""
    values = {"vo_id": caller.vo_id, "user_id": caller.user_id, "key": key, "path": path}
    await execute(tx, Q.hold_key, values)
    for (body,) in await fetch_rows(tx, Q.find_answer, values):
        if body is None:
            raise AnswerNotKept
        return bytes(body)
    return None


async def keep_answer(tx: Tx, caller: Caller, key: str, path: str, body: bytes) -> None:
    """For a day."""
    kept = body if len(body) <= MAX_KEPT_BYTES else None
    values = {"vo_id": caller.vo_id, "user_id": caller.user_id, "key": key, "path": path, "body": kept}
    await execute(tx, Q.keep_answer, values)


async def forget_old_answers(tx: Tx) -> None:
    await execute(tx, Q.forget_answers, {"kept_s": KEPT_S})
