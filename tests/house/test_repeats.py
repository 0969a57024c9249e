"""A request that comes twice, because its answer was lost, is carried out once and answered twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spinor import repeats
from spinor.catalog.routes import routes
from spinor.db import fetch_value
from tests.asgi import Http, over_http
from tests.catalog.workbench import World, check_sums, register

REMOVE = {"paths": ["/astro/x"]}


@pytest.fixture
async def http(world: World, tmp_path: Path) -> AsyncIterator[Http]:
    async with over_http(world.db, tmp_path, routes) as http:
        yield http


async def test_a_repeated_removal_gets_the_first_answer(world: World, http: Http) -> None:
    await register(world.db, world.ada, "/astro/x")
    first = await http(world.ada, "POST", "/api/files/remove", REMOVE, idempotency_key="k" * 32)
    again = await http(world.ada, "POST", "/api/files/remove", REMOVE, idempotency_key="k" * 32)
    assert first.json["done"] == ["/astro/x"]
    assert again.body == first.body
    other = await http(world.ada, "POST", "/api/files/remove", REMOVE, idempotency_key="l" * 32)
    assert [refusal["code"] for refusal in other.json["refused"]] == ["unknown-lfn"]
    stranger = await http(world.alan, "POST", "/api/files/remove", REMOVE, idempotency_key="k" * 32)
    assert stranger.json["done"] == []
    await check_sums(world.db, files=0)


async def test_the_same_move_at_once_from_two_sides_is_done_once(world: World, http: Http) -> None:
    await register(world.db, world.ada, "/astro/x")
    body = [{"source": "/astro/x", "target": "/astro/y"}]
    answers = await asyncio.gather(
        *(http(world.ada, "POST", "/api/files/move", body, idempotency_key="same-key") for _ in range(5))
    )
    assert {answer.status for answer in answers} == {200}
    await check_sums(world.db, files=1)


async def test_what_failed_is_tried_again(world: World, http: Http) -> None:
    body = [{"source": "/astro/x", "target": "/astro/y"}]
    assert (await http(world.ada, "POST", "/api/files/move", body, idempotency_key="same-key")).status == 404
    await register(world.db, world.ada, "/astro/x")
    assert (await http(world.ada, "POST", "/api/files/move", body, idempotency_key="same-key")).status == 200


async def test_keys_are_checked_and_answers_forgotten(world: World, http: Http) -> None:
    await register(world.db, world.ada, "/astro/x")
    assert (await http(world.ada, "POST", "/api/files/remove", REMOVE, idempotency_key="a b")).json["code"] == (
        "bad-parameter"
    )
    await http(world.ada, "POST", "/api/files/remove", REMOVE, idempotency_key="same-key")
    async with world.db.transaction() as tx:
        await repeats.forget_old_answers(tx)
        assert await fetch_value(tx, "SELECT count(*) FROM requests.answer") == 1
        await tx.execute("UPDATE requests.answer SET answered_at = now() - interval '2 days'")
        await repeats.forget_old_answers(tx)
        assert await fetch_value(tx, "SELECT count(*) FROM requests.answer") == 0


async def test_an_answer_too_large_to_keep_says_so(world: World, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "MAX_KEPT_BYTES", 10)
    await register(world.db, world.ada, "/astro/x")
    await http(world.ada, "POST", "/api/files/remove", REMOVE, idempotency_key="same-key")
    again = await http(world.ada, "POST", "/api/files/remove", REMOVE, idempotency_key="same-key")
    assert (again.status, again.json["code"]) == (409, "answer-not-kept")
