"""A run that is stopped at any moment goes on where it was, and tells everything once."""

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from spinor.catalog.manifests import batches, source

from .direct import Commands
from .workbench import World, check_sums


@pytest.fixture
def spinor(world: World, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr(source, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(batches, "BATCH_ROWS", 10)
    return Commands(world.db, monkeypatch)


class Killed(BaseException):
    """The client ends here, as by a signal."""


class Breaker:
    """Lets so many batches through, each counted before it is sent or after it is answered."""

    def __init__(self, moment: str, count: int) -> None:
        self.moment, self.count, self.posted = moment, count, 0
        self.lock = threading.Lock()

    def __call__(self, _method: str, path: str) -> None:
        if not path.startswith(f"{self.moment} /api/files/register-batch"):
            return
        with self.lock:
            self.posted += 1
            if self.posted > self.count:
                raise Killed


def write(path: Path, good: int = 500) -> None:
    """Some lines are broken, and one LFN comes again with another size."""
    lines = [f"/astro/d{n % 7}/f{n},{n}" for n in range(good)]
    lines[123:123] = ["/astro/x,-1"]
    lines[333:333] = ["/astro/d0/f0,7", "", "/astro/y"]
    path.write_text("lfn,size\n" + "\n".join(lines) + "\n")


async def start(
    spinor: Commands, world: World, capsys: pytest.CaptureFixture[str], path: Path, *words: str, **more: Any
) -> tuple[int, str, str]:
    words = (str(path), "--se", "local-se", "--report", f"{path}.report", *words)
    try:
        code = await spinor(world.ada, "file", "register-manifest", *words, **more)
    except Killed:
        code = -9
    # What was on its way when the client died still arrives.
    for thread in threading.enumerate():
        if thread.name.startswith("send-"):
            await asyncio.to_thread(thread.join)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("count", [1, 2, 20])
async def test_a_stopped_run_goes_on_and_tells_everything_once(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str], moment: str, count: int
) -> None:
    manifest = tmp_path / "m.csv"
    write(manifest)
    breaker = Breaker(moment, count)
    code, _, said = await start(spinor, world, capsys, manifest, "--skip-broken", disturb=breaker)
    assert code == -9
    line = json.loads((tmp_path / "m.csv.report.progress").read_bytes())["line"]
    assert line < 504
    assert (f"up to line {line:,}" in said) == bool(line)
    await check_sums(world.db)
    # A report may have more than what is settled.
    (tmp_path / "m.csv.report").write_bytes((tmp_path / "m.csv.report").read_bytes() + b"half a li")
    lines: list[int] = []

    def watch(_method: str, path: str) -> None:
        if path.startswith("before /api/files/register-batch"):
            lines.append(1)

    code, out, _ = await start(spinor, world, capsys, manifest, "--skip-broken", "--resume", "--json", disturb=watch)
    assert code == 1
    sums = json.loads(out.splitlines()[-1])
    # f0 comes twice: in one batch or two, it differs, or was there before with the other size.
    assert (sums["files"], sums["broken"], sums["differing"]) == (501, 2, 1)
    report = [json.loads(line) for line in (tmp_path / "m.csv.report").read_text().splitlines()]
    assert sorted((row["problem"], row.get("line", 0)) for row in report) == [
        ("broken", 125), ("broken", 337), ("differing", 0),
    ]  # fmt: skip
    await check_sums(world.db, files=500)
    assert not (tmp_path / "m.csv.report.progress").exists()
    assert len(lines) < 60 - line // 10


async def test_ctrl_c_says_how_to_go_on(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "m.csv"
    write(manifest)

    def interrupt(_method: str, path: str, seen: list[str] = []) -> None:  # noqa: B006 (it counts)
        seen.append(path)
        if len(seen) > 60:
            raise KeyboardInterrupt

    code, _, said = await start(spinor, world, capsys, manifest, "--skip-broken", disturb=interrupt)
    assert code == 130
    assert "with --resume goes on there" in said
    assert (await start(spinor, world, capsys, manifest, "--skip-broken", "--resume"))[0] == 1
    await check_sums(world.db, files=500)


async def test_what_has_changed_is_not_resumed(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "m.csv"
    write(manifest)

    async def stopped() -> None:
        code, _, _ = await start(spinor, world, capsys, manifest, "--skip-broken", disturb=Breaker("after", 9))
        assert code == -9

    await stopped()
    for words, fragment in [
        (["--skip-broken", "--below", "/astro/e"], "had directory '/astro', and this one has '/astro/e'"),
        ([], "had broken lines 'skipped', and this one has 'refused'"),
    ]:
        code, _, said = await start(spinor, world, capsys, manifest, *words, "--resume")
        assert code == 5, said
        assert fragment in said
    os.utime(manifest, (time.time() + 9, time.time() + 9))
    code, _, said = await start(spinor, world, capsys, manifest, "--skip-broken", "--resume")
    assert code == 5
    assert "m.csv has changed since that run" in said
    (tmp_path / "m.csv.report.progress").write_text("{")
    code, _, said = await start(spinor, world, capsys, manifest, "--skip-broken", "--resume")
    assert code == 2
    assert "is no record of progress; remove it" in said
    # A record that was lost costs time and nothing else.
    (tmp_path / "m.csv.report.progress").unlink()
    assert (await start(spinor, world, capsys, manifest, "--skip-broken", "--resume"))[0] == 1
    await check_sums(world.db, files=500)


async def test_a_checked_manifest_is_not_checked_again(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tmp_path / "m.ndjson"
    manifest.write_text("".join(f'{{"lfn": "d/f{n}", "size_bytes": {n}}}\n' for n in range(300)))
    words = ["--below", "/astro/e"]
    assert (await start(spinor, world, capsys, manifest, *words, disturb=Breaker("after", 9)))[0] == -9
    read: list[int] = []
    blocks = source.Source.blocks

    def counted(self: source.Source, after_line: int = 0, **more: Any) -> Any:
        read.append(after_line)
        return blocks(self, after_line, **more)

    monkeypatch.setattr(source.Source, "blocks", counted)
    assert (await start(spinor, world, capsys, manifest, *words, "--resume"))[0] == 0
    assert len(read) == 1
    assert read[0] > 0
    await check_sums(world.db, files=300)
