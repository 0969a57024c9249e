"""What is kept of a payload."""

import hashlib
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from spinor_pilot import outputs
from spinor_pilot.faults import DataFault, Fault, Lost


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
    outputs.pack(work, names, tmp_path / "out.tar", 1_000_000)
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert {"a.txt", "deep/er/d.txt", "new\nline.txt"} <= set(archive.getnames())
        assert all(member.uname == "" for member in archive)
    with pytest.raises(Fault, match="disk_bytes"):
        outputs.pack(work, names, tmp_path / "out.tar", 10)
    assert outputs.matching(work, ["escape.txt"]) == ([], ["escape.txt (a link out of the job's directory)"])


def place(tmp_path: Path, se: str, name: str) -> dict[str, Any]:
    target = tmp_path / se / "astro" / f"{name};7.1"
    # As the server writes it: the braces of a pattern are quoted in a URL.
    return {"se": se, "pfn": f"astro/{name};7.1", "url": target.as_uri()}


def output(tmp_path: Path, path: str = "result.dat", **changes: Any) -> dict[str, Any]:
    name = "{file}" if "*" in path else path
    return {
        "path": path, "lfn": f"/astro/{name}", "places": [place(tmp_path, "first", name)], "failover": [],
        "required": True, **changes,
    }  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def deliver(asked: dict[str, Any], work: Path) -> tuple[list[dict[str, Any]], list[str], list[dict[str, Any]]]:
    missing: list[str] = []
    uploaded: list[dict[str, Any]] = []
    return outputs.deliver(asked, str(work), missing, lambda: None, uploaded), missing, uploaded


def test_an_upload_is_complete_and_described(tmp_path: Path, work: Path) -> None:
    data = b"numbers" * 300_000
    (work / "result.dat").write_bytes(data)
    (told,), _, (uploaded,) = deliver(output(tmp_path), work)
    assert told["adler32"] == f"{zlib.adler32(data):08x}"
    assert told["sha256"] == hashlib.sha256(data).hexdigest()
    assert told["size_bytes"] == len(data)
    assert (tmp_path / "first/astro/result.dat;7.1").read_bytes() == data
    assert [path.name for path in (tmp_path / "first/astro").iterdir()] == ["result.dat;7.1"]
    outputs.remove(uploaded)
    assert not list((tmp_path / "first/astro").iterdir())


def test_a_pattern_brings_each_of_its_files(tmp_path: Path, work: Path) -> None:
    for name in ("a 1.dat", "b%.dat", "c.log"):
        (work / name).write_text(name)
    told, _, _ = deliver(output(tmp_path, "*.dat"), work)
    assert [(each["lfn"], each["pfn"]) for each in told] == [
        ("/astro/a 1.dat", "astro/a 1.dat;7.1"),
        ("/astro/b%.dat", "astro/b%.dat;7.1"),
    ]
    assert (tmp_path / "first/astro/b%.dat;7.1").read_text() == "b%.dat"


@pytest.mark.parametrize(("name", "why"), [(b"caf\xe9.dat", "not UTF-8"), (b"a\nb.dat", "control character")])
def test_a_name_that_no_lfn_can_have_is_refused(tmp_path: Path, work: Path, name: bytes, why: str) -> None:
    Path(os.fsdecode(os.fsencode(work) + b"/" + name)).write_text("x")
    with pytest.raises(Fault, match=why):
        deliver(output(tmp_path, "*.dat"), work)
    assert not (tmp_path / "first").exists()


def test_each_place_gets_a_copy_and_another_takes_over_when_none_does(tmp_path: Path, work: Path) -> None:
    (work / "result.dat").write_text("x")
    first, second, third = (place(tmp_path, name, "result.dat") for name in ("first", "second", "third"))
    told, _, _ = deliver(output(tmp_path, places=[first, second], failover=[third]), work)
    assert [each["se"] for each in told] == ["first", "second"]
    (tmp_path / "broken").write_text("a file where the storage should be")
    broken = place(tmp_path, "broken", "result.dat")
    told, _, uploaded = deliver(output(tmp_path, places=[broken], failover=[broken, third]), work)
    assert [each["se"] for each in told] == ["third"]
    assert [each["se"] for each in uploaded] == ["third"]
    told, _, _ = deliver(output(tmp_path, places=[broken, second], failover=[third]), work)
    assert [each["se"] for each in told] == ["second"]


def test_an_interrupted_upload_leaves_nothing(tmp_path: Path, work: Path) -> None:
    (work / "result.dat").write_bytes(b"x" * 5_000_000)
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Lost

    uploaded: list[dict[str, Any]] = []
    with pytest.raises(Lost):
        outputs.deliver(output(tmp_path), str(work), [], check, uploaded)
    assert not list((tmp_path / "first/astro").iterdir())


def test_a_missing_or_foreign_output_is_named(tmp_path: Path, work: Path) -> None:
    with pytest.raises(Fault, match=r"'result.dat'.*/astro/result.dat") as caught:
        deliver(output(tmp_path), work)
    assert caught.value.error_class == "payload"
    assert deliver(output(tmp_path, required=False), work) == ([], ["result.dat"], [])
    (tmp_path / "secret").write_text("not yours")
    (work / "result.dat").symlink_to(tmp_path / "secret")
    with pytest.raises(Fault, match="leads out"):
        deliver(output(tmp_path), work)


def test_a_link_to_another_file_of_the_job_is_followed(tmp_path: Path, work: Path) -> None:
    (work / "run1.dat").write_text("newest")
    (work / "result.dat").symlink_to("run1.dat")
    deliver(output(tmp_path), work)
    assert (tmp_path / "first/astro/result.dat;7.1").read_text() == "newest"


def test_a_storage_that_cannot_be_written_is_told_with_its_errno(tmp_path: Path, work: Path) -> None:
    (work / "result.dat").write_bytes(b"x")
    (tmp_path / "first").write_text("a file where the storage should be")
    with pytest.raises(DataFault, match=r"No storage took 'result.dat' as /astro/result.dat.*first: .*\(E"):
        deliver(output(tmp_path), work)
