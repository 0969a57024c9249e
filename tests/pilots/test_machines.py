"""Files that go to the machine of a batch system, and come from there; other machines: test_push_carriers.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from spinor.pilots.plugin import ElementUnavailable
from spinor.pilots.plugins.machines import Ran, ThisMachine, fetch, put


async def test_a_file_goes_and_comes(tmp_path: Path) -> None:
    here, there, back = tmp_path / "here", tmp_path / "a b" / "the're", tmp_path / "back"
    here.write_bytes(bytes(range(256)) * 10_000)
    await put(ThisMachine(), str(there), here)
    assert there.stat().st_mode & 0o777 == 0o600
    assert there.parent.stat().st_mode & 0o777 == 0o700
    assert await fetch(ThisMachine(), str(there), back)
    assert back.read_bytes() == here.read_bytes()
    assert names(tmp_path) == {"here", "a b", "back"}


async def test_nothing_comes_of_what_is_no_file(tmp_path: Path) -> None:
    back = tmp_path / "back"
    (tmp_path / "link").symlink_to("/etc/passwd")
    for name in ("none", "link", "."):
        assert not await fetch(ThisMachine(), str(tmp_path / name), back)
    assert names(tmp_path) == {"link"}


async def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ElementUnavailable, match="cannot be written on this machine"):
        await put(ThisMachine(), str(tmp_path / "file" / "x"), tmp_path / "file")


async def test_a_file_that_was_cut_short_is_told_and_replaces_nothing(tmp_path: Path) -> None:
    whole, part, there = tmp_path / "whole", tmp_path / "part", tmp_path / "there"
    whole.write_text("all of it")
    part.write_text("all")
    there.write_text("what was there")

    class Broken(ThisMachine):
        async def run(self, words: Sequence[str], stdin: bytes | Path = b"", **more: Any) -> Ran:
            assert stdin == whole
            return await super().run(words, part, **more)  # As when the connection is lost in between.

    with pytest.raises(ElementUnavailable, match="not all of its 9 bytes are there"):
        await put(Broken(), str(there), whole)
    assert there.read_text() == "what was there"
    assert names(tmp_path) == {"whole", "part", "there"}


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}
