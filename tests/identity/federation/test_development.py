"""The development login in a browser: only where it is offered, and only for who has its secret."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spinor.identity import development
from tests.identity.federation.workbench import running_spinor

if TYPE_CHECKING:
    from tests.conftest import World
    from tests.identity.federation.workbench import Spinor
    from tests.servers.authority import Authority


async def test_it_is_not_offered_without_the_setting(spinor: Spinor) -> None:
    secret = development.read_secret(development.make_secret(spinor.settings.data_dir, "ada")).secret
    async with spinor.person() as person:
        assert "Development" not in (await person.http.get("/login")).text
        assert (await person.http.post("/login", data={"secret": secret})).status_code == 404
        assert await person.user() == ""


async def test_it_signs_in_who_has_the_secret(
    world: World,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spinor: Spinor,
) -> None:
    async with running_spinor(world, authority, tmp_path / "own", monkeypatch, development=True) as own:
        secret = development.read_secret(development.make_secret(own.settings.data_dir, "ada")).secret
        async with own.person() as person:
            assert "Development login" in (await person.http.get("/login?next=/device")).text
            assert (await person.http.post("/login", data={"secret": "guessed"})).status_code == 403
            foreign = {"sec-fetch-site": "cross-site"}
            assert (await person.http.post("/login", data={"secret": secret}, headers=foreign)).status_code == 403
            form = {"secret": secret, "next": "//evil.example.org"}
            assert (await person.http.post("/login", data=form)).headers["location"] == "/login"
            assert "linked to <b>ada</b>" in (await person.http.get("/account")).text
            assert secret not in (await person.http.get("/login")).text
