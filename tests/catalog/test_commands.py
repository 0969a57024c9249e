"""`spinor file` from the words on the command line to the rows and the bytes."""

import asyncio
import io
import json
import os
import socket
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spinor.catalog.cli import scanning
from spinor.db import fetch_rows, fetch_value

from .direct import Commands
from .workbench import World, check_sums, register


@pytest.fixture
def spinor(world: World, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(world.db, monkeypatch)


@pytest.fixture
def root(world: World) -> Path:
    return world.storage_root


def grow(tree: Path, count: int = 120) -> None:
    for n in range(count):
        (tree / f"d{n % 7}" / "sub").mkdir(parents=True, exist_ok=True)
        (tree / f"d{n % 7}" / ("sub" if n % 2 else "") / f"f{n}").write_bytes(b"x" * n)


def files_in(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def make_undecodable(tree: Path) -> None:
    os.close(os.open(os.fsencode(tree) + b"/bad\xff", os.O_CREAT | os.O_WRONLY))
    Path(os.fsdecode(os.fsencode(tree) + b"/baddir\xfe")).mkdir()


async def test_put_get_and_the_rest_of_a_files_life(
    world: World, spinor: Commands, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "a").write_text("content")
    (tmp_path / "b").write_text("other")
    assert (
        await spinor(world.ada, "file", "put", str(tmp_path / "a"), str(tmp_path / "b"), "/astro/d", "--se", "local-se")
        == 0
    )
    assert await spinor(world.ada, "file", "ls", "/astro/d", "-q") == 0
    assert capsys.readouterr().out == "/astro/d/a\n/astro/d/b\n"
    assert await spinor(world.ada, "file", "stat", "/astro/d/a", "--json") == 0
    assert json.loads(capsys.readouterr().out)["adler32"] == f"{zlib.adler32(b'content'):08x}"
    assert await spinor(world.ada, "file", "put", str(tmp_path / "a"), "/astro/d/", "--se", "local-se") == 0
    assert "already" in capsys.readouterr().err
    assert await spinor(world.ada, "file", "put", str(tmp_path / "b"), "/astro/d/a", "--se", "local-se") == 5
    assert "size_bytes 7, not 5" in capsys.readouterr().err
    stored = files_in(root)
    assert len(stored) == 2, "a copy that was not registered stayed"
    monkeypatch.setattr(sys, "stdin", io.StringIO("/astro/d/a\n/astro/d/b\n"))
    assert await spinor(world.ada, "file", "get", "-", str(tmp_path / "back/")) == 0
    assert (tmp_path / "back" / "a").read_text() == "content"
    assert await spinor(world.ada, "file", "mv", "/astro/d/a", "/astro/d/c") == 0
    assert await spinor(world.ada, "file", "get", "/astro/d/c", str(tmp_path / "c")) == 0
    next(path for path in stored if path.read_text() == "content").write_text("CONTENT")
    assert await spinor(world.ada, "file", "get", "/astro/d/c", str(tmp_path / "wrong")) == 5
    assert not (tmp_path / "wrong").exists()
    assert "adler32" in capsys.readouterr().err
    assert await spinor(world.ada, "file", "rm", "/astro/d/c", "/astro/d/nope") == 3
    assert "/astro/d/nope" in capsys.readouterr().err
    assert await spinor(world.ada, "file", "rm", "-r", "/astro/d") == 0
    await check_sums(world.db, files=0)


async def test_listings_on_the_command_line(world: World, spinor: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    await register(world.db, world.ada, "/astro/d/new\nline", "/astro/d/x.dat", "/astro/d/sub/y.dat", size_bytes=2000)
    for words, expected in {
        ("ls", "/astro/d"): "sub/\nnew\\nline\nx.dat\n",
        ("ls", "/astro/d/*.dat"): "x.dat\n",
        ("find", "/astro", "size > 1kB", "and name like *.dat"): "/astro/d/x.dat\n/astro/d/sub/y.dat\n",
        ("find", "/astro", "--where", "name = y.dat"): "/astro/d/sub/y.dat\n",
        ("find", "/astro", "--limit", "1", "--sort=-lfn"): "/astro/d/x.dat\n",
        ("mkdir", "/astro/e/f"): "",
        ("metadata", "declare", "run=integer"): "",
        ("metadata", "set", "/astro/d", "run=5", "kind=raw"): "",
        ("find", "/astro", "run = 5 and kind = raw", "--fields", "run,size"): (
            "lfn                 run  size\n/astro/d/new\\nline  5    2000\n"
            "/astro/d/x.dat      5    2000\n/astro/d/sub/y.dat  5    2000\n"
        ),
        ("metadata", "keys", "-q"): "run\n",
        ("metadata", "unset", "/astro/d", "kind"): "",
        ("usage", "/astro/d"): (
            "path      storage element  files  size\n/astro/d  all              3      6 kB\n"
            "          local-se         3      6 kB\n"
        ),
    }.items():
        assert await spinor(world.ada, "file", *words) == 0, words
        out = capsys.readouterr().out
        assert [line.split() for line in out.splitlines()] == [line.split() for line in expected.splitlines()], words
    assert await spinor(world.ada, "file", "ls", "-l", "/astro/d") == 0
    assert "drwxr-xr-x" in capsys.readouterr().out
    assert await spinor(world.ada, "file", "metadata", "set", "/astro/d", "run=five") == 2
    assert "'run' is of type integer" in capsys.readouterr().err
    assert await spinor(world.ada, "file", "find", "/astro", "size >") == 2
    assert await spinor(world.bea, "file", "ls", "/astro") == 4


async def test_registering_by_hand_and_from_a_manifest(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await spinor(world.ada, "file", "register", "/astro/x", "--se", "local-se", "--size", "3", "--pfn", "p") == 0
    manifest = tmp_path / "manifest"
    manifest.write_text("".join(f'{{"lfn": "/astro/m{n}", "se": "local-se", "size_bytes": {n}}}\n' for n in range(3)))
    assert await spinor(world.ada, "file", "register", "--from", str(manifest), "-q") == 0
    assert capsys.readouterr().out == "/astro/m0\n/astro/m1\n/astro/m2\n"
    manifest.write_text('{"lfn": "/astro/n", "se": "local-se", "size_bytes": 1}\n{"lfn": "/astro/o", "size": 1}\n')
    assert await spinor(world.ada, "file", "register", "--from", str(manifest)) == 2
    assert "line 2" in capsys.readouterr().err
    assert await spinor(world.ada, "file", "register", "/astro/x") == 2
    await check_sums(world.db, files=4)


async def publish(
    spinor: Commands, world: World, tree: Path, capsys: pytest.CaptureFixture[str], *words: str, **more: Any
) -> tuple[int, dict[str, int], dict[str, str]]:
    """The exit code, the sums, and the problems by LFN."""
    command = ("file", "register-directory", str(tree), "/astro/tree", "--se", "local-se", "--json")
    code = await spinor(world.ada, *command, *words, **more)
    *problems, sums = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    # Of a file that differs in several ways the first one counts.
    reasons = {p["lfn"].removeprefix("/astro/tree/"): p.get("reason") or p["field"] for p in reversed(problems)}
    return code, sums, reasons


async def test_a_tree_is_published_and_again_reports_what_changed(
    world: World, spinor: Commands, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "BATCH_ROWS", 30)
    grow(root / "tree")
    code, sums, problems = await publish(spinor, world, root / "tree", capsys, "--checksum", "adler32")
    assert (code, sums["files"], sums["registered"], problems) == (0, 120, 120, {})
    await check_sums(world.db, files=120)
    code, sums, problems = await publish(spinor, world, root / "tree", capsys, "--checksum", "sha256")
    assert (code, sums["registered"], sums["already"], problems) == (0, 0, 120, {})
    (root / "tree/d0/f0").write_bytes(b"longer")
    (root / "tree/d1/f8").write_bytes(b"y" * 8)
    (root / "tree/d2/f2").unlink()
    (root / "tree/new").write_bytes(b"new")
    code, sums, problems = await publish(spinor, world, root / "tree", capsys, "--checksum", "adler32")
    assert (code, sums["registered"], sums["already"]) == (1, 1, 117)
    assert {name: problem for name, problem in problems.items() if "f2" not in name} == {
        "d0/f0": "size_bytes", "d1/f8": "adler32",
    }  # fmt: skip
    assert "not here any more" in problems["d2/f2"]
    await check_sums(world.db, files=121)


async def test_what_cannot_be_registered_is_reported_with_its_reason(
    world: World, spinor: Commands, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = root / "tree"
    grow(tree, 10)
    (tree / "link").symlink_to(tree / "d1")
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tree / "sock"))
    make_undecodable(tree)
    (tree / "new\nline").write_text("kept")
    (tree / "pass.tmp").write_text("excluded")
    (tree / ".0123456789abcdef.part").write_text("a copy under way")
    report = tmp_path / "report"
    code, sums, problems = await publish(
        spinor, world, tree, capsys, "--checksum", "adler32", "--exclude", "*.tmp", "--report", str(report)
    )
    assert (code, sums["registered"], sums["refused"]) == (1, 11, 5)
    assert problems == {
        "link": "is a symbolic link",
        "pipe": "is a pipe",
        "sock": "is a socket",
        "bad\\xff": "the name is not valid UTF-8; rename the file",
        "baddir\\xfe": "the name is not valid UTF-8; rename the file",
    }
    assert {json.loads(line)["problem"] for line in report.read_text().splitlines()} == {"refused"}
    await check_sums(world.db, files=11)


async def test_files_that_vanish_or_cannot_be_read_are_refused(
    world: World, spinor: Commands, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(root / "tree", 20)
    facts, read_entries = scanning.Scan._facts, scanning.Scan._entries

    def vanishing(self: scanning.Scan, path: str, entries: Iterator[os.DirEntry[str]]) -> bool:
        found = list(entries)
        if path == "d3/sub":
            (root / "tree/d3/sub/f3").unlink(missing_ok=True)
        return read_entries(self, path, iter(found))

    def unreadable(self: scanning.Scan, directory: int, name: str, buffer: memoryview) -> Any:
        if name == "f4":
            raise PermissionError(13, "Permission denied", name)
        return facts(self, directory, name, buffer)

    monkeypatch.setattr(scanning.Scan, "_entries", vanishing)
    monkeypatch.setattr(scanning.Scan, "_facts", unreadable)
    code, sums, problems = await publish(spinor, world, root / "tree", capsys)
    assert (code, sums["registered"], problems) == (1, 19, {"d3/sub/f3": "it vanished meanwhile"})
    code, sums, problems = await publish(spinor, world, root / "tree", capsys, "--checksum", "sha256")
    assert (code, sums["already"], problems) == (1, 18, {"d4/f4": "it cannot be read: Permission denied"})
    await check_sums(world.db, files=19)


class Killed(BaseException):
    """The client ends here, as by a signal."""


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_run_that_was_killed_is_resumed_by_running_it_again(
    world: World, spinor: Commands, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(scanning, "BATCH_ROWS", 30)
    grow(root / "tree", 300)
    calls = 0

    def kill(_method: str, path: str) -> None:
        nonlocal calls
        if path.startswith(f"{moment} /api/files/register-batch"):
            calls += 1
            if calls > 4:
                raise Killed

    with pytest.raises(Killed):
        await spinor(
            world.ada, "file", "register-directory", str(root / "tree"), "/astro/tree", "--se", "local-se", disturb=kill
        )
    # What was on its way when the client died still arrives.
    for thread in threading.enumerate():
        if thread.name.startswith("send-"):
            await asyncio.to_thread(thread.join)
    capsys.readouterr()
    await check_sums(world.db)
    async with world.db.transaction() as tx:
        before = await fetch_value(tx, "SELECT count(*) FROM catalog.file")
    assert 0 < before < 300
    code, sums, problems = await publish(spinor, world, root / "tree", capsys)
    assert (code, sums["registered"], sums["already"], problems) == (0, 300 - before, before, {})
    await check_sums(world.db, files=300)


async def test_where_a_tree_may_lie(
    world: World, spinor: Commands, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    grow(root / "tree", 5)
    (root / "alias").symlink_to(root / "tree")
    monkeypatch.chdir(tmp_path)

    async def run(path: str, directory: str = "/astro/tree", se: str = "local-se") -> tuple[int, str]:
        code = await spinor(world.ada, "file", "register-directory", path, directory, "--se", se)
        return code, capsys.readouterr().err

    assert (await run("tree"))[0] == 0
    assert (await run(str(root / "alias"), "/astro/alias"))[0] == 0
    async with world.db.transaction() as tx:
        rows = await fetch_rows(tx, "SELECT DISTINCT path FROM catalog.directory_location WHERE path LIKE 'tree%%'")
        assert await fetch_value(tx, "SELECT count(*) FROM catalog.directory_location WHERE path LIKE 'alias%%'") == 0
    assert rows
    for words, code, fragment in [
        (("/absent",), 3, "/absent"),
        ((str(tmp_path),), 2, "root of local-se"),
        ((str(root / "tree"), "/bio/tree"), 4, "'astro'"),
        ((str(root / "tree"), "relative"), 2, "begin with /"),
        ((str(root / "tree"), "/astro/tree", "nowhere"), 3, "local-se, second-se"),
    ]:
        assert (found := await run(*words))[0] == code, words
        assert fragment in found[1]


async def test_another_users_directory_refuses_the_tree_entry_by_entry(
    world: World, spinor: Commands, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(world.db, world.alan, "/astro/tree/d1/alan")
    grow(root / "tree", 14)
    code, sums, problems = await publish(spinor, world, root / "tree", capsys)
    assert (code, sums["registered"], sums["refused"]) == (1, 0, 14)
    assert "not here any more" in problems.pop("d1/alan", "not here any more")
    assert all("may not write" in reason for reason in problems.values())
    await check_sums(world.db, files=1)
