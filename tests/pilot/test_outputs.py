"""What is kept of a payload."""

import hashlib
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from spinor_pilot import outputs
from spinor_pilot.faults import Fault


def test_patterns(tmp_path: Path) -> None:
    work = tmp_path / "odd [name]*"
    (work / "deep" / "er").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "c.log", "deep/er/d.txt", "new\nline.txt"):
        (work / name).write_text(name)
    (tmp_path / "secret.txt").write_text("not yours")
    (work / "escape.txt").symlink_to(tmp_path / "secret.txt")
    names, missing = outputs.matching(work, ["*.txt", "deep", "**/d.txt", "*.root", "../secret.txt", "/etc/passwd"])
    assert names == ["a.txt", "b.txt", "new\nline.txt", "deep", "deep/er/d.txt"]
    assert missing == ["*.root", "../secret.txt", "/etc/passwd"]
    outputs.pack(work, names, tmp_path / "out.tar")
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert {"a.txt", "deep/er/d.txt", "new\nline.txt"} <= set(archive.getnames())
        assert all(member.uname == "" for member in archive)


def output(tmp_path: Path, name: str = "result.dat") -> dict[str, Any]:
    target = tmp_path / "se" / "astro" / f"{name};7.1"
    return {"path": name, "lfn": f"/astro/{name}", "se": "local-se", "pfn": f"astro/{name};7.1", "url": target.as_uri()}


def test_an_upload_is_complete_and_described(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    data = b"numbers" * 300_000
    (work / "result.dat").write_bytes(data)
    told = outputs.upload(output(tmp_path), work, lambda: None)
    assert told["adler32"] == f"{zlib.adler32(data):08x}"
    assert told["sha256"] == hashlib.sha256(data).hexdigest()
    assert told["size_bytes"] == len(data)
    assert (tmp_path / "se/astro/result.dat;7.1").read_bytes() == data
    assert [path.name for path in (tmp_path / "se/astro").iterdir()] == ["result.dat;7.1"]
    outputs.remove(output(tmp_path))
    assert not list((tmp_path / "se/astro").iterdir())


def test_an_interrupted_upload_leaves_nothing(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "result.dat").write_bytes(b"x" * 5_000_000)
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise InterruptedError("enough")

    with pytest.raises(Fault):
        outputs.upload(output(tmp_path), work, check)
    assert not list((tmp_path / "se/astro").iterdir())


def test_a_missing_or_foreign_output_is_named(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(Fault, match=r"'result.dat'.*/astro/result.dat"):
        outputs.upload(output(tmp_path), work, lambda: None)
    (tmp_path / "secret").write_text("not yours")
    (work / "result.dat").symlink_to(tmp_path / "secret")
    with pytest.raises(Fault):
        outputs.upload(output(tmp_path), work, lambda: None)


def test_a_storage_that_cannot_be_written_is_told_with_its_errno(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "result.dat").write_bytes(b"x")
    (tmp_path / "se").write_text("a file where the storage should be")
    with pytest.raises(Fault, match=r"uploading 'result.dat' as /astro/result.dat to local-se: .*\(E"):
        outputs.upload(output(tmp_path), work, lambda: None)
