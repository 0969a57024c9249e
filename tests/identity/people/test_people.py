"""Sessions, suspensions and the audit log: who sees what, who may end what, and that an end is an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import pytest

from spinor.access import Caller
from spinor.identity import service as identity
from spinor.identity.models import Proven
from tests.identity.workbench import Answer

if TYPE_CHECKING:
    from tests.identity.people.conftest import Council

SESSIONS, ISSUED, END = "/api/sessions/search", "/api/issued/search", "/api/sessions/end"
SUSPEND, LIFT = "/api/suspensions", "/api/suspensions/lift"


async def asked(council: Council, caller: Caller, path: str, **body: Any) -> Answer:
    token = await council.token(caller)
    return await council.service.signed("POST", path, token, msgspec.json.encode(body))


async def sign_in(council: Council, user: str) -> tuple[str, str]:
    """A session as a login makes it: its refresh token and its access token."""
    world, keys, url = council.service.world, council.service.keys, council.service.settings.url
    async with world.db.transaction() as tx:
        tokens = await identity.sign_in(tx, keys, url, Proven(user=user, signed_in_by="development"))
    return tokens.refresh_token, tokens.access_token


async def status_of(council: Council, token: str) -> tuple[int, str]:
    council.service.verifier.forget_all()  # What a server does when it is signalled.
    answer = await council.service.signed("GET", "/api/auth/whoami", token)
    return answer.status, answer.body.get("code", "")


async def sessions_of(council: Council, caller: Caller, **body: Any) -> set[str]:
    rows = (await asked(council, caller, SESSIONS, **body)).body["rows"]
    return {row["user"] for row in rows}


async def test_one_sees_ones_own_sessions(council: Council) -> None:
    for user in ("ada", "alan", "bea"):
        await sign_in(council, user)
    for caller in (council.ada, council.alan, council.bea, council.cleo):
        assert await sessions_of(council, caller) == {caller.user}


async def test_an_administrator_sees_the_vo_and_an_operator_all(council: Council) -> None:
    for user in ("ada", "alan", "bea"):
        await sign_in(council, user)
    assert await sessions_of(council, council.cleo, whose="vo") == {"ada", "alan", "cleo"}
    assert await sessions_of(council, council.dora, whose="vo") == {"bea", "dora"}
    assert await sessions_of(council, council.otto, whose="all") >= {"ada", "alan", "bea", "cleo", "dora", "otto"}
    for caller, whose in ((council.ada, "vo"), (council.ada, "all"), (council.cleo, "all")):
        for path in (SESSIONS, ISSUED):
            assert (await asked(council, caller, path, whose=whose)).status == 403


async def test_an_ended_session_takes_its_tokens_with_it(council: Council) -> None:
    refresh, access = await sign_in(council, "alan")
    rows = (await asked(council, council.alan, SESSIONS, sort=["-opened_at"], where="client_id=spinor-cli")).body[
        "rows"
    ]
    wanted = next(row["session_id"] for row in rows if row["signed_in_by"] == "development")
    assert (await status_of(council, access))[0] == 200
    assert (await asked(council, council.alan, END, session_ids=[wanted])).body["done"] == [wanted]
    assert await status_of(council, access) == (401, "session-ended")
    again = await council.service.form("/api/auth/token", grant_type="refresh_token", refresh_token=refresh)
    assert (again.status, again.body["error"]) == (400, "invalid_grant")


async def test_all_others_end_and_this_one_stays(council: Council) -> None:
    old = [(await sign_in(council, "alan"))[1] for _ in range(3)]
    token = await council.token(council.alan)
    ended = await council.service.signed("POST", END, token, b'{"others": true}')
    assert len(ended.body["done"]) == 3
    assert (await status_of(council, token))[0] == 200
    assert {await status_of(council, access) for access in old} == {(401, "session-ended")}


@pytest.mark.parametrize("who", ["ada", "dora"])
async def test_nobody_ends_the_session_of_another(council: Council, who: str) -> None:
    """Neither a colleague nor the administrator of another VO, and they do not learn that it is there."""
    _, access = await sign_in(council, "alan")
    rows = (await asked(council, council.alan, SESSIONS)).body["rows"]
    theirs = [row["session_id"] for row in rows]
    answer = await asked(council, getattr(council, who), END, session_ids=[*theirs, str(uuid4())])
    assert answer.body["done"] == []
    assert {refused["code"] for refused in answer.body["refused"]} == {"unknown-session"}
    assert (await status_of(council, access))[0] == 200


async def test_an_administrator_ends_sessions_of_the_vo(council: Council) -> None:
    _, access = await sign_in(council, "alan")
    rows = (await asked(council, council.cleo, SESSIONS, whose="vo", where="user=alan")).body["rows"]
    answer = await asked(council, council.cleo, END, session_ids=[row["session_id"] for row in rows])
    assert answer.body["refused"] == []
    assert await status_of(council, access) == (401, "session-ended")
    ended = (await asked(council, council.cleo, SESSIONS, whose="vo", where="user=alan")).body["rows"]
    assert {row["ended_by"] for row in ended} == {"administrator"}


async def test_a_suspended_user_is_out_at_once(council: Council) -> None:
    refresh, access = await sign_in(council, "alan")
    outcome = (await asked(council, council.cleo, SUSPEND, users=["alan"], reason="leaked his token")).body
    assert outcome == {"done": ["alan"], "refused": []}
    assert (await status_of(council, access))[0] == 401
    again = await council.service.form("/api/auth/token", grant_type="refresh_token", refresh_token=refresh)
    assert again.status == 400
    with pytest.raises(Exception, match="suspended"):
        await sign_in(council, "alan")
    listed = (await asked(council, council.cleo, "/api/suspensions/search")).body["rows"]
    assert [(row["user"], row["reason"], row["suspended_by"]) for row in listed] == [
        ("alan", "leaked his token", "cleo")
    ]


async def test_a_reinstated_user_signs_in_again_but_old_sessions_stay_ended(council: Council) -> None:
    _, access = await sign_in(council, "alan")
    await asked(council, council.cleo, SUSPEND, users=["alan"], reason="test")
    assert (await asked(council, council.cleo, LIFT, users=["alan"])).body["done"] == ["alan"]
    assert (await status_of(council, access)) == (401, "session-ended")
    _, fresh = await sign_in(council, "alan")
    assert (await status_of(council, fresh))[0] == 200
    twice = (await asked(council, council.cleo, LIFT, users=["alan"])).body
    assert [refused["code"] for refused in twice["refused"]] == ["not-suspended"]


async def test_a_suspension_can_end_by_itself(council: Council) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert (await asked(council, council.cleo, SUSPEND, users=["alan"], reason="x", ends_at=soon)).body["done"]
    async with council.service.world.db.pool.connection() as conn:
        await conn.execute("UPDATE identity.suspension SET ends_at = now() - interval '1 second'")
    await sign_in(council, "alan")
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert (await asked(council, council.cleo, SUSPEND, users=["alan"], reason="x", ends_at=past)).status == 422


async def test_a_suspension_holds_in_its_vo_and_a_ban_everywhere(council: Council) -> None:
    _, in_bio = await sign_in(council, "bea")
    unknown = (await asked(council, council.cleo, SUSPEND, users=["bea", "nobody"], reason="x")).body
    assert [refused["code"] for refused in unknown["refused"]] == ["unknown-user"] * 2
    assert (await status_of(council, in_bio))[0] == 200
    assert (await asked(council, council.cleo, SUSPEND, users=["bea"], reason="x", everywhere=True)).status == 403
    assert (await asked(council, council.otto, SUSPEND, users=["bea"], reason="x", everywhere=True)).body["done"]
    assert (await status_of(council, in_bio))[0] == 401
    assert (await asked(council, council.dora, LIFT, users=["bea"])).body["done"] == [], "a ban is not the VO's to lift"
    assert (await asked(council, council.otto, LIFT, users=["bea"], everywhere=True)).body["done"] == ["bea"]


async def test_nobody_locks_themselves_out(council: Council) -> None:
    answer = (await asked(council, council.cleo, SUSPEND, users=["cleo"], reason="oops")).body
    assert [refused["code"] for refused in answer["refused"]] == ["yourself"]


async def test_every_token_is_in_the_audit_log_and_none_is_shown(council: Council) -> None:
    refresh, access = await sign_in(council, "alan")
    answer = await asked(council, council.alan, ISSUED)
    kinds = [row["kind"] for row in answer.body["rows"]]
    assert set(kinds) == {"access_token"}
    text = msgspec.json.encode(answer.body).decode()
    assert refresh not in text
    assert access.rpartition(".")[2] not in text
    theirs = await asked(council, council.cleo, ISSUED, whose="vo", where="user=alan")
    assert {row["user"] for row in theirs.body["rows"]} == {"alan"}


async def test_members_of_the_vo(council: Council) -> None:
    rows = (await asked(council, council.cleo, "/api/members/search", sort=["user"])).body["rows"]
    assert [row["user"] for row in rows] == ["ada", "alan", "cleo", "otto"]
    assert next(row["groups"] for row in rows if row["user"] == "ada") == "astro_admins astro_users"
    assert (await asked(council, council.ada, "/api/members/search")).status == 403


async def test_the_record_is_kept_for_thirteen_months(council: Council) -> None:
    for _ in range(3):
        await sign_in(council, "alan")
    async with council.service.world.db.transaction() as tx:
        await tx.execute(b"UPDATE identity.issued SET issued_at = now() - interval '399 days'")
        await tx.execute(
            b"UPDATE identity.issued SET issued_at = now() - interval '401 days'"
            b" WHERE issued_id = (SELECT min(issued_id) FROM identity.issued)"
        )
        assert await identity.delete_expired(tx) == 1
        (left,) = await (await tx.execute(b"SELECT count(*) FROM identity.issued")).fetchone() or (0,)
    assert left == 2
