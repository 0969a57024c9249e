"""Applying operations data: revisions, tables, conflicts, and the way back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from spinor.access import Caller
from spinor.configuration import service
from spinor.configuration.checking import BadConfiguration
from spinor.configuration.routes import routes
from spinor.db import Database, fetch_rows
from spinor.errors import NotFound
from spinor.identity import service as identity
from spinor.resources import service as resources
from tests.configuration.test_reading import GOOD
from tests.identity.workbench import ISSUER, Answer, Service, make_service

if TYPE_CHECKING:
    from tests.conftest import World


async def put(db: Database, text: str, base: int | None = None, author: str = "ada") -> int:
    async with db.transaction() as tx:
        return (await service.apply(tx, text, author=author, base_revision=base)).revision


async def caller(db: Database, user: str = "ada", vo: str = "astro", group: str = "admins") -> Caller:
    async with db.transaction() as tx:
        return await identity.caller_for(tx, user, vo, group)


async def test_the_tables_follow_the_document(db: Database) -> None:
    await put(db, GOOD)
    ada = await caller(db)
    async with db.transaction() as tx:
        (se,) = await resources.storage_elements(tx, ada)
        (ce,) = await resources.computing_elements(tx)
        sites = await resources.sites(tx, ada)
    assert (se.name, se.site, se.plugin, se.root, se.read_only) == ("se", "LOCAL", "file", "/srv/data", False)
    assert (ce.cores, ce.memory_bytes, ce.wall_s, ce.max_pilots, ce.vos) == (2, 2**32, 5400, 0, ["astro"])
    assert [(site.name, site.computing_elements, site.storage_elements) for site in sites] == [
        ("LOCAL", ["ce"], ["se"])
    ]


async def test_changes_keep_the_numbers_that_other_tables_refer_to(db: Database) -> None:
    await put(db, GOOD)
    before = await caller(db)
    async with db.transaction() as tx:
        (se,) = await resources.storage_elements(tx, before)
    changed = GOOD.replace("[configuration_administrator]", "[configuration_administrator, normal_user]")
    await put(db, changed.replace("/srv/data", "/srv/other").replace("Ada Lovelace", "Augusta Ada King"))
    after = await caller(db)
    async with db.transaction() as tx:
        (moved,) = await resources.storage_elements(tx, after)
    assert (after.user_id, after.group_id, after.vo_id) == (before.user_id, before.group_id, before.vo_id)
    assert "jobs:submit" in after.scopes - before.scopes
    assert (moved.se_id, moved.root) == (se.se_id, "/srv/other")


async def test_what_leaves_is_retired_and_can_come_back(db: Database) -> None:
    bio = "  bio:\n    groups:\n      people: {properties: [normal_user], members: [bea]}\n"
    more = GOOD.replace("users:\n", f"{bio}users:\n  bea:\n").replace("vos: [astro]}\n", "vos: [astro, bio]}\n")
    await put(db, more)
    bea = await caller(db, "bea", "bio", "people")
    async with db.transaction() as tx:
        subject = await fetch_rows(tx, "SELECT subject FROM identity.user_account WHERE name = 'bea'")
        assert len(await resources.storage_elements(tx, bea)) == 1
    await put(db, GOOD)
    with pytest.raises(NotFound):
        await caller(db, "bea", "bio", "people")
    async with db.transaction() as tx:
        rows = await fetch_rows(tx, "SELECT retired_at FROM identity.vo WHERE name = 'bio'")
        assert rows[0][0] is not None
        assert await resources.storage_elements(tx, bea) == []
    await put(db, more)
    assert await caller(db, "bea", "bio", "people") == bea
    async with db.transaction() as tx:
        assert await fetch_rows(tx, "SELECT subject FROM identity.user_account WHERE name = 'bea'") == subject


async def test_a_retired_computing_element_is_still_seen_by_the_factory(db: Database) -> None:
    await put(db, GOOD)
    await put(db, GOOD.replace("ce: {", "new-ce: {"))
    async with db.transaction() as tx:
        assert [ce.name for ce in await resources.computing_elements(tx)] == ["new-ce"]
        both = await resources.computing_elements(tx, with_retired=True)
    assert [(ce.name, ce.retired_at is None) for ce in both] == [("ce", False), ("new-ce", True)]


async def test_faults_change_nothing(db: Database) -> None:
    await put(db, GOOD)
    with pytest.raises(BadConfiguration):
        await put(db, GOOD.replace("[ada]", "[bob]"))
    async with db.transaction() as tx:
        assert (await service.show(tx)).revision == 1
        assert len(await service.history(tx)) == 1


async def test_what_is_in_force_already_makes_no_revision(db: Database) -> None:
    assert await put(db, GOOD) == 1
    assert await put(db, GOOD) == 1
    assert await put(db, "# revision 1, applied by ada at some time\n" + GOOD, base=1) == 1
    assert await put(db, "# Now with a remark.\n" + GOOD) == 2


async def test_two_administrators_do_not_overwrite_each_other(db: Database) -> None:
    await put(db, GOOD)
    await put(db, GOOD.replace("cores: 2", "cores: 3"), base=1)
    with pytest.raises(service.RevisionOutdated, match="revision 2 by ada") as caught:
        await put(db, GOOD.replace("cores: 2", "cores: 4"), base=1, author="bea")
    assert (caught.value.status, caught.value.facts["revision"]) == (409, 2)


async def test_of_many_at_once_one_wins(db: Database) -> None:
    await put(db, GOOD)
    texts = [GOOD.replace("cores: 2", f"cores: {n}") for n in range(3, 11)]
    answers = await asyncio.gather(*(put(db, text, base=1) for text in texts), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["RevisionOutdated"] * 7 + ["int"]


async def test_the_way_back(db: Database) -> None:
    await put(db, GOOD)
    await put(db, GOOD.replace("/srv/data", "/srv/wrong"))
    async with db.transaction() as tx:
        done = await service.rollback(tx, 1, author="ada")
        (se,) = await resources.storage_elements(tx, await identity.caller_for(tx, "ada", "astro", "admins"))
        history = await service.history(tx)
        with pytest.raises(service.UnknownRevision):
            await service.rollback(tx, 99, author="ada")
    assert (done.revision, se.root) == (3, "/srv/data")
    assert [change.path for change in done.changes] == ["sites.LOCAL.storage_elements.se.root"]
    assert [(entry.revision, entry.comment) for entry in history] == [(3, "Back to revision 1."), (2, ""), (1, "")]


async def test_before_the_first_document(db: Database) -> None:
    async with db.transaction() as tx:
        with pytest.raises(service.UnknownRevision, match="bootstrap"):
            await service.show(tx)
        difference = await service.diff(tx, GOOD)
        with pytest.raises(service.RevisionOutdated):
            await service.apply(tx, GOOD, author="ada", base_revision=7)
    assert difference.revision == 0
    assert "users.ada.full_name" in {change.path for change in difference.changes}


async def test_a_document_that_is_not_understood_any_more_can_be_replaced(db: Database) -> None:
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO configuration.revision (document, author) VALUES ('old: {}', 'x')")
    assert await put(db, GOOD, base=1) == 2


# ---------------------------------------------------------------------------------------------------- over HTTP


@pytest.fixture
def over_http(world: World, tmp_path: Path) -> Service:
    return make_service(world, tmp_path / "service", systems=[routes])


async def asked(service: Service, who: Caller, method: str, path: str, body: object = None) -> Answer:
    async with service.world.db.transaction() as tx:
        token = await identity.access_token_for(tx, service.keys, ISSUER, who)
    return await service.signed(method, path, token, msgspec.json.encode(body) if body is not None else b"")


async def test_only_configuration_administrators(over_http: Service) -> None:
    proposal = {"document": GOOD}
    for who in (over_http.world.ada, over_http.world.alan, over_http.world.bea):
        for method, path, body in (
            ("GET", "/api/config", None),
            ("GET", "/api/config/history", None),
            ("POST", "/api/config/validate", proposal),
            ("POST", "/api/config/diff", proposal),
            ("POST", "/api/config/apply", proposal),
            ("POST", "/api/config/rollback", {"revision": 1}),
        ):
            assert (await asked(over_http, who, method, path, body)).status == 403


async def test_an_administrator_shows_changes_and_rolls_back(over_http: Service) -> None:
    admin = over_http.world.ada_admin
    shown = (await asked(over_http, admin, "GET", "/api/config")).body
    changed = shown["document"].replace("cores: 2", "cores: 8")
    judged = await asked(over_http, admin, "POST", "/api/config/diff", {"document": changed})
    assert [change["path"] for change in judged.body["changes"]] == ["sites.LOCAL.computing_elements.local-ce.cores"]
    proposal = {"document": changed, "base_revision": shown["revision"], "comment": "More cores."}
    applied = await asked(over_http, admin, "POST", "/api/config/apply", proposal)
    assert applied.body["revision"] == 2
    late = {"document": changed + "# Late.\n", "base_revision": 1}
    refused = await asked(over_http, admin, "POST", "/api/config/apply", late)
    assert (refused.status, refused.body["code"]) == (409, "revision-outdated")
    back = await asked(over_http, admin, "POST", "/api/config/rollback", {"revision": 1})
    assert back.body["revision"] == 3
    history = (await asked(over_http, admin, "GET", "/api/config/history?limit=2")).body
    assert [(entry["revision"], entry["author"]) for entry in history] == [(3, "ada"), (2, "ada")]
    assert (await asked(over_http, admin, "GET", "/api/config?revision=2")).body["comment"] == "More cores."
    assert (await asked(over_http, admin, "GET", "/api/config?revision=77")).status == 404


async def test_faults_travel_with_their_lines(over_http: Service) -> None:
    bad = {"document": "vos:\n  astro:\n    grups: {}\n"}
    judged = await asked(over_http, over_http.world.ada_admin, "POST", "/api/config/validate", bad)
    assert judged.body["valid"] is False
    assert judged.body["faults"][0]["line"] == 3
    assert (await asked(over_http, over_http.world.ada_admin, "POST", "/api/config/apply", bad)).status == 422


async def test_the_schema_is_public(over_http: Service) -> None:
    assert "$defs" in (await over_http.call("GET", "/api/config/schema")).body
