"""Looks into a running payload's directory: nothing outside is shown, whatever the payload puts there."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from spinor_pilot import peeks


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "job-1.1" / "work"
    (work / "out").mkdir(parents=True)
    (work / "out" / "result.log").write_bytes(b"0123456789" * 10)
    (tmp_path / "secret").write_text("not yours")
    (work / "leak").symlink_to("../../secret")
    (work / "deep").symlink_to("..")
    (work / "inner").symlink_to("out/result.log")
    os.mkfifo(work / "pipe")
    return work


def look(work: Path | None, path: str, position: int | None = None, size_bytes: int = 10) -> dict[str, Any]:
    asked = {"peek_id": 17, "job_id": 1, "attempt": 1, "path": path, "position": position, "size_bytes": size_bytes}
    told = peeks.answer(None if work is None else str(work), asked)
    assert (told["peek_id"], told["attempt"]) == (17, 1)
    return told


@pytest.mark.parametrize(
    ("position", "begin", "data"), [(None, 90, b"0123456789"), (5, 5, b"5678901234"), (99, 99, b"9"), (500, 100, b"")]
)
def test_part_of_a_file(work: Path, position: int | None, begin: int, data: bytes) -> None:
    told = look(work, "out/result.log", position)
    assert (told["kind"], told["size_bytes"], told["position"]) == ("file", 100, begin)
    assert base64.b64decode(told["data"]) == data


def test_a_directory(work: Path) -> None:
    told = look(work, "")
    assert {entry["name"]: entry["kind"] for entry in told["entries"]} == {
        "deep": "link", "inner": "link", "leak": "link", "out": "directory", "pipe": "other",
    }  # fmt: skip
    assert not told["truncated"]
    assert [entry["name"] for entry in look(work, "out/")["entries"]] == ["result.log"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("leak", "outside"), ("deep/secret", "outside"), ("deep", "outside"), ("inner", "outside"),
        ("../secret", "outside"), ("/etc/passwd", "outside"), ("a\0b", "outside"), ("pipe", "not-a-file"),
        ("none", "no-such-file"),
        ("out/result.log/x", "no-such-file"), ("deep/none", "outside"),
    ],
)  # fmt: skip
def test_what_is_refused(work: Path, path: str, code: str) -> None:
    told = look(work, path)
    assert (told["kind"], told["code"]) == ("refused", code), told


def test_a_payload_of_somebody_else(work: Path) -> None:
    assert look(None, "out")["code"] == "not-here"
