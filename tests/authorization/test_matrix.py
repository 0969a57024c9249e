"""The authorization matrix: every route, asked by every kind of caller.

What a caller may is computed here from the one table of scopes, and compared with what the running service answers. The
statuses of those who may are kept in `matrix.txt`, to be read: `SPINOR_WRITE_MATRIX=1 make test` … writes it anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette

from spinor.access import Scope, scopes_of
from spinor.app import all_routes, create_app
from spinor.configuration import service as configuration
from spinor.http import Public, Route
from spinor.identity import service as identity
from spinor.identity.keys import KeyRing
from spinor.identity.tokens import mint
from spinor.settings import Settings
from tests.authorization.requests import body_of, path_of, status_of
from tests.conftest import WORLD

if TYPE_CHECKING:
    from tests.conftest import World

TABLE = Path(__file__).with_name("matrix.txt")
URL = "https://spinor.example.org"
GROUPS = {
    "group-member": ("astro", []),
    "monitor": ("astro", ["job_monitor"]),
    "user": ("astro", ["normal_user"]),
    "other-vo": ("bio", ["normal_user"]),
    "vo-admin": ("astro", ["vo_administrator"]),
    "operator": ("astro", ["operator"]),
    "configurer": ("astro", ["configuration_administrator"]),
    "files-admin": ("astro", ["file_catalog_management"]),
    "jobs-admin": ("astro", ["job_administrator"]),
    "pilots-admin": ("astro", ["pilot_administrator"]),
}
NOBODY = ("anonymous", "nonsense", "expired", "future", "audience", "issuer", "ended", "suspended")
# The payload first: it ends when its pilot says good-bye.
MACHINES = {"payload": {Scope.PAYLOAD_ACT, Scope.FILES_READ}, "pilot": {Scope.PILOT_ACT}}


def allowed(route: Route, who: str) -> bool | None:
    """Whether the gate of the route lets this caller in; None where there is no gate."""
    if isinstance(route.scope, Public):
        return None
    if who in MACHINES:
        return route.scope in MACHINES[who]
    return who in GROUPS and route.scope in scopes_of(GROUPS[who][1])


class Callers:
    """One token of each kind, for one service."""

    def __init__(self, app: Starlette, tokens: dict[str, str]) -> None:
        self.app = app
        self.tokens = tokens

    async def ask(self, route: Route, who: str) -> int:
        headers = {"content-type": route.body_type or "application/json"}
        if who != "anonymous":
            headers["authorization"] = f"Bearer {self.tokens[who]}"
        return await status_of(self.app, route.method, path_of(route), body_of(route), headers)


@pytest.fixture
async def callers(world: World, tmp_path: Path) -> AsyncIterator[Callers]:
    keys = KeyRing.create(tmp_path / "keys")
    settings = Settings(
        database_url=world.db.url, data_dir=tmp_path, url=URL, keys_dir=tmp_path / "keys", blob_dir=tmp_path / "blobs",
        storage_dir=tmp_path / "storage", ce_dir=tmp_path / "computing",
    )  # fmt: skip
    document = WORLD.format(root=world.storage_root.parent)
    for name, (vo, properties) in GROUPS.items():
        group = f"      {name}: {{properties: [{', '.join(properties)}], members: [{name}]}}\n"
        document = document.replace(f"  {vo}:\n    groups:\n", f"  {vo}:\n    groups:\n{group}", 1)
        document = document.replace("\nusers:\n", f"\nusers:\n  {name}: {{}}\n", 1)
    tokens: dict[str, str] = {"nonsense": "eyJhbGciOiJub25lIn0.e30."}
    async with world.db.transaction() as tx:
        await configuration.apply(tx, document, author="tests")
        for name, (vo, _) in GROUPS.items():
            caller = await identity.caller_for(tx, name, vo, name)
            tokens[name] = await identity.access_token_for(tx, keys, URL, caller)
        for name in ("ended", "suspended"):
            tokens[name] = await identity.access_token_for(tx, keys, URL, world.alan)
            state = {
                "ended": "UPDATE identity.session SET ended_at = now() WHERE user_id = %s",
                "suspended": "INSERT INTO identity.suspension (user_id, reason, suspended_by) VALUES (%s, 'x', 'x')",
            }
            await tx.execute(state[name].encode(), [world.alan.user_id])
    tokens |= await _wrong(world, keys) | await _machines(world, keys)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield Callers(app, tokens)


async def _wrong(world: World, keys: KeyRing) -> dict[str, str]:
    """Tokens of ada that are right in all but one thing."""
    async with world.db.transaction() as tx:
        good = await identity.access_token_for(tx, keys, URL, world.ada_admin)
    from spinor.identity.tokens import read_token

    claims = read_token(keys, URL, good, time.time())
    said: dict[str, Any] = {name: getattr(claims, name) for name in ("sub", "vo", "group", "sid", "scope", "client_id")}
    now = time.time()
    return {
        "expired": mint(keys, URL, said, now=now - 3600, lifetime_s=3500),
        "future": mint(keys, URL, said, now=now + 3600),
        "audience": mint(keys, URL, {**said, "aud": "https://storage.example.org"}),
        "issuer": mint(keys, "https://other.example.org", {**said, "aud": URL}),
    }


async def _machines(world: World, keys: KeyRing) -> dict[str, str]:
    """A pilot that is alive, and the payload of an attempt that it holds."""
    async with world.db.transaction() as tx:
        rows = await tx.execute(
            b"INSERT INTO pilots.pilot (vo_id, ce_id, status, secret_hash, enrolled_at)"
            b" SELECT %s, min(ce_id), 'running', '\\x00', now() FROM resources.computing_element RETURNING pilot_id",
            [world.ada.vo_id],
        )
        (pilot_id,) = await rows.fetchone() or (0,)
        from spinor.jobs import service as jobs
        from spinor.jobs.models import JobSpec

        made = await jobs.submit_jobs(tx, world.ada, jobs.Elements(), [JobSpec(executable="true")])
        (job_id,) = made.arrays[0].ids
        await tx.execute(
            b"INSERT INTO jobs.running (job_id, vo_id, attempt, pilot_id, ce_id, cores, lease_expires_at)"
            b" VALUES (%s, %s, 1, %s, 1, 1, now() + interval '1 hour')",
            [job_id, world.ada.vo_id, pilot_id],
        )
    ada = world.ada
    grant = identity.PayloadGrant(job_id, 1, ada.vo, (ada.vo_id, ada.user_id), [Scope.FILES_READ.value], 600)
    [token], _ = identity.mint_payload_tokens(keys, URL, [grant])
    return {"pilot": identity.mint_pilot_token(keys, URL, "astro", pilot_id, 600), "payload": token}


async def test_every_route_answers_every_caller_as_the_table_of_scopes_says(callers: Callers) -> None:
    rows, wrong = [], []
    people = [*GROUPS, *MACHINES]
    for route in all_routes():
        statuses = {}
        for who in (*NOBODY, *people):
            status = await callers.ask(route, who)
            statuses[who] = status
            gate = allowed(route, who)
            expected = {True: status != 401, False: status == (401 if who in NOBODY else 403)}
            if status >= 500 or (gate is not None and not expected[gate]):
                wrong.append(f"{route.method} {route.path} asked by {who}: {status}, scope {route.scope}")
        cells = " ".join(f"{statuses[who]:>12}" for who in people)
        rows.append(f"{route.method:4} {route.path:52} {route.scope.value:17} {cells}")
    heading = f"{'':4} {'address':52} {'scope':17} {' '.join(f'{who:>12}' for who in people)}"
    text = "\n".join([heading, *rows, ""])
    if os.environ.get("SPINOR_WRITE_MATRIX") == "1":
        TABLE.write_text(text)
    assert wrong == []
    assert text == TABLE.read_text(), "the matrix has changed: read it, then SPINOR_WRITE_MATRIX=1"


def test_nobody_is_let_in_by_a_scope_that_no_property_gives() -> None:
    given = frozenset().union(*(scopes_of([name]) for name in _properties()))
    assert {Scope.PILOT_ACT, Scope.PAYLOAD_ACT, Scope.PAYLOAD_PROXY} == set(Scope) - given


def _properties() -> list[str]:
    from spinor.access import SCOPES_BY_PROPERTY

    return list(SCOPES_BY_PROPERTY)
