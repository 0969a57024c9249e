"""`spinor file rm` and `spinor file operation`, from the words on the command line to the rows."""

import json
import threading
import time
from typing import Any

import pytest

from spinor.catalog import rules
from spinor.catalog.access import service as access
from spinor.catalog.operations import routes
from spinor.catalog.operations.runner import run_slice

from .direct import Commands
from .operating import finished, lfns, rows, smaller_slices, value
from .workbench import World, check_sums, register


@pytest.fixture
def spinor(world: World, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(world.db, monkeypatch)


@pytest.fixture
def only_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done at once, so that it stays to be done."""
    monkeypatch.setattr(routes, "_AT_ONCE_S", -1.0)


async def test_a_large_tree_goes_by_an_operation(
    world: World, spinor: Commands, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MAX_REMOVED_FILES", 20)
    await register(world.db, world.ada, *(f"/astro/t/d{n % 3}/f{n}" for n in range(60)), "/astro/u/x", "/astro/kept/x")
    assert await spinor(world.ada, "file", "rm", "-r", "--dry-run", "/astro/t", "/astro/u/x") == 0
    assert "61 files (610 B) and 4 directories would be done, 0 refused" in capsys.readouterr().err
    await check_sums(world.db, files=62)
    assert await spinor(world.ada, "file", "rm", "-r", "/astro/t", "/astro/u") == 0
    assert "60 files (600 B) and 4 directories done" in capsys.readouterr().err
    assert await lfns(world) == ["/astro/kept/x"]
    assert await rows(world, "SELECT kind, state::text FROM catalog.operation ORDER BY operation_id") == [
        ("remove", "done"), ("remove", "done"),
    ]  # fmt: skip
    assert await spinor(world.ada, "file", "rm", "-r", "/astro") == 5
    assert await spinor(world.ada, "file", "rm", "-r", "/astro/nope") == 3
    await check_sums(world.db, files=1)


async def test_a_filter_and_refusals(world: World, spinor: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    await register(world.db, world.ada, *(f"/astro/t/f{n}" for n in range(9)), "/astro/t/keep")
    await register(world.db, world.alan, "/astro/alan/theirs")
    assert await spinor(world.ada, "file", "rm", "--where", "name like f*", "/astro/t") == 2
    assert await spinor(world.ada, "file", "rm", "-r", "--where", "name like f*", "/astro/t") == 0
    assert await lfns(world) == ["/astro/alan/theirs", "/astro/t/keep"]
    words = ["file", "operation", "set-metadata", "/astro/t", "/astro/alan", "--set", "run=7", "--set", "site=north"]
    capsys.readouterr()
    assert await spinor(world.ada, *words) == 1
    assert "1 files (10 B) and 2 directories done, 1 refused" in capsys.readouterr().err
    assert await value(world, "SELECT metadata FROM catalog.file WHERE name = 'keep'") == {"run": 7, "site": "north"}
    assert await spinor(world.ada, "file", "operation", "list", "-q") == 0
    newest = capsys.readouterr().out.split()[0]
    assert await spinor(world.ada, "file", "operation", "refusals", newest, "--json") == 0
    assert json.loads(capsys.readouterr().out)["lfn"] == "/astro/alan/theirs"
    await check_sums(world.db)


@pytest.mark.usefixtures("only_background")
async def test_list_show_pause_resume_cancel(
    world: World, spinor: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(world.db, world.ada, *(f"/astro/t/f{n:03d}" for n in range(100)))
    assert await spinor(world.ada, "file", "rm", "-r", "--where", "size > 1", "--no-wait", "/astro/t") == 0
    number = capsys.readouterr().out.strip()
    await smaller_slices(world, int(number), 50)
    await run_slice(world.db, int(number))
    assert await spinor(world.ada, "file", "operation", "show", number) == 0
    shown = capsys.readouterr().out
    assert "running" in shown and "local-se" in shown
    assert await spinor(world.ada, "file", "operation", "list") == 0
    assert "remove" in capsys.readouterr().out
    assert await spinor(world.ada, "file", "operation", "pause", number) == 0
    assert await spinor(world.ada, "file", "operation", "pause", number) == 5
    assert await spinor(world.alan, "file", "operation", "resume", number) == 3
    assert await spinor(world.ada, "file", "operation", "resume", number, "-q") == 0
    assert await spinor(world.ada, "file", "operation", "cancel", number) == 0
    capsys.readouterr()
    assert await spinor(world.ada, "file", "operation", "wait", number, "--json") == 1
    ended: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (ended["state"], ended["done_files"]) == ("cancelled", 50)
    assert await spinor(world.alan, "file", "operation", "show", number) == 3
    await check_sums(world.db, files=50)


@pytest.mark.usefixtures("only_background")
async def test_ctrl_c_leaves_the_operation_running(
    world: World, spinor: Commands, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(world.db, world.ada, "/astro/t/x")
    pressed = threading.Event()

    def press(_: float) -> None:
        pressed.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", press)
    assert await spinor(world.ada, "file", "rm", "-r", "--where", "size > 1", "/astro/t") == 130
    monkeypatch.undo()
    assert pressed.is_set()
    told = capsys.readouterr().err
    number = int(await value(world, "SELECT max(operation_id) FROM catalog.operation"))
    assert f"spinor file operation wait {number}" in told
    assert (await finished(world, number)).done_files == 1


async def test_modes_of_a_large_tree_change_in_the_background(
    world: World, spinor: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MAX_FILES", 5)
    await register(world.db, world.ada, *(f"/astro/t/d{n % 3}/f{n}" for n in range(30)))
    assert await spinor(world.ada, "file", "chmod", "-R", "go-rwx", "/astro/t") == 0
    assert await value(world, "SELECT kind FROM catalog.operation") == "chmod"
    modes = "SELECT DISTINCT a.mode FROM catalog.file AS f JOIN catalog.access AS a USING (access_id)"
    assert await rows(world, modes) == [(0o600,)]
    await check_sums(world.db)
