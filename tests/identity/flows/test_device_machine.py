"""Random polls, decisions, waits and redemptions of several programs, against a model of what each must be told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from spinor.app import CONSTRAINT_ERRORS
from spinor.db import Database, execute, fetch_value
from spinor.identity.routes import routes
from tests.conftest import World
from tests.identity.flows.people import Browser, Program
from tests.identity.workbench import make_service

EMPTY = "TRUNCATE identity.device_grant, identity.device_guess, identity.session CASCADE"
# The clock of the database cannot be moved, so its times are.
PASS = """
    UPDATE identity.device_grant SET polled_at = polled_at - make_interval(secs => %(seconds)s::integer),
                                     expires_at = expires_at - make_interval(secs => %(seconds)s::integer)
"""


@dataclass
class Grant:
    """What must be true of a program that waits."""

    device_code: str
    user_code: str
    expires_at: int
    state: str = "waiting"
    interval_s: int = 5
    polled_at: int | None = None
    session_open: bool = False


class DeviceMachine(RuleBasedStateMachine):
    loop: asyncio.AbstractEventLoop
    db: Database
    ada: Browser
    program: Program
    grants = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.all: list[Grant] = []
        self.run(self._execute(EMPTY))

    def run(self, verb: Any) -> Any:
        return self.loop.run_until_complete(verb)

    async def _execute(self, statement: str, **parameters: Any) -> None:
        async with self.db.transaction() as tx:
            await execute(tx, statement, parameters)

    @rule(target=grants)
    def start(self) -> Grant:
        started = self.run(self.program.start())
        grant = Grant(started["device_code"], started["user_code"], self.now + 600)
        self.all.append(grant)
        return grant

    @rule(seconds=st.sampled_from([100, 300]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.run(self._execute(PASS, seconds=seconds))

    @rule(grant=grants, decision=st.sampled_from(["allow", "deny"]))
    def decide(self, grant: Grant, decision: str) -> None:
        decidable = grant.state == "waiting" and self.now < grant.expires_at
        self.run(self._execute("DELETE FROM identity.device_guess"))
        seen = self.run(self.ada.confirm(grant.user_code))
        assert seen.status == (200 if decidable else 404)
        if decidable:
            form = {**seen.fields, "role": seen.form.roles[0], "decision": decision}
            assert self.run(self.ada.post("/device/decision", form)).status == 200
            grant.state = "allowed" if decision == "allow" else "denied"

    @rule(grant=grants)
    def poll(self, grant: Grant) -> None:
        answer = self.run(self.program.poll(grant.device_code))
        assert answer.body.get("error", "tokens") == self._expected(grant)

    def _expected(self, grant: Grant) -> str:
        if grant.state == "redeemed":
            grant.session_open = False
            return "invalid_grant"
        if self.now >= grant.expires_at:
            return "expired_token"
        if grant.state == "denied":
            return "access_denied"
        if grant.state == "allowed":
            grant.state, grant.session_open = "redeemed", True
            return "tokens"
        too_soon = grant.polled_at is not None and self.now - grant.polled_at < grant.interval_s
        grant.polled_at = self.now
        grant.interval_s += 5 if too_soon else 0
        return "slow_down" if too_soon else "authorization_pending"

    @invariant()
    def each_was_redeemed_once_at_most(self) -> None:
        async def count() -> tuple[int, int]:
            async with self.db.transaction() as tx:
                made = await fetch_value(tx, "SELECT count(*) FROM identity.session")
                still_open = await fetch_value(tx, "SELECT count(*) FROM identity.session WHERE ended_at IS NULL")
                return made, still_open

        made = len([grant for grant in self.all if grant.state == "redeemed"])
        still_open = len([grant for grant in self.all if grant.session_open])
        assert self.run(count()) == (made, still_open)


def test_device_grants_keep_to_their_states(world_url: str, tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    opening = Database.open(world_url, size=4, errors=CONSTRAINT_ERRORS)
    db = loop.run_until_complete(opening.__aenter__())
    try:
        world = World(db=db, ada=None, ada_admin=None, alan=None, bea=None, storage_root=tmp_path)  # type: ignore[arg-type]
        service = make_service(world, tmp_path / "service", systems=[routes])
        ada = loop.run_until_complete(Browser(service).sign_in("ada"))
        parts = {"loop": loop, "db": db, "ada": ada, "program": Program(service)}
        machine = type("Machine", (DeviceMachine,), parts)
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        loop.run_until_complete(opening.__aexit__(None, None, None))
        loop.close()


@pytest.fixture
def world_url(database_url: str, tmp_path: Path) -> str:
    """A database with the two VOs. It is filled in a loop of its own, which is closed before the machine's begins."""
    from spinor.configuration import service as configuration
    from tests.conftest import WORLD

    async def fill() -> None:
        async with Database.open(database_url, errors=CONSTRAINT_ERRORS) as db, db.transaction() as tx:
            await configuration.apply(tx, WORLD.format(root=tmp_path), author="tests")

    asyncio.run(fill())
    return database_url
