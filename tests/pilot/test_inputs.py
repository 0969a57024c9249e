"""What a payload finds in its directory: nothing outside of it, and nothing that was not verified."""

import io
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from spinor_pilot import inputs
from spinor_pilot.faults import Fault


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    target.seek(0)
    return target


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def test_files_directories_and_inner_links(tmp_path: Path) -> None:
    file = archive(
        (member("run.sh", mode=0o755), b"#!/bin/sh\n"),
        (member("data", tarfile.DIRTYPE), b""),
        (member("data/a b\n'\"é"), b"x"),
        (member("link", tarfile.SYMTYPE, "data/a b\n'\"é"), b""),
    )
    inputs.unpack(file, tmp_path, "sandbox 1")
    assert os.access(tmp_path / "run.sh", os.X_OK)
    assert (tmp_path / "link").read_bytes() == b"x"


@pytest.mark.parametrize(
    "bad",
    [
        member("/etc/spinor-test"),
        member("../outside"),
        member("a/../../outside"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("link", tarfile.SYMTYPE, "../outside"),
        member("hard", tarfile.LNKTYPE, "../outside"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda bad: f"{bad.name}-{bad.linkname}".replace("/", "|"),
)
def test_what_leads_out_is_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(Fault, match="sandbox 1"):
        inputs.unpack(archive((bad, b"")), work, "sandbox 1")
    assert not (tmp_path / "outside").exists()


def test_no_file_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    file = archive((member("d", tarfile.SYMTYPE, "."), b""), (member("d/x"), b"inside"))
    with pytest.raises(Fault):
        inputs.unpack(file, work, "sandbox 1")
    assert not list((tmp_path / "outside").iterdir())


def test_noise_is_not_an_archive(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="not a tar archive"):
        inputs.unpack(io.BytesIO(b"\x00\x01noise" * 500), tmp_path, "sandbox 1")


def described(path: Path, data: bytes, **changes: Any) -> dict[str, Any]:
    path.write_bytes(data)
    facts = {
        "lfn": f"/astro/{path.name}",
        "size_bytes": len(data),
        "adler32": f"{zlib.adler32(data):08x}",
        "sha256": None,
        "replicas": [{"se": "local-se", "url": path.as_uri()}],
    }
    return {**facts, **changes}


def test_a_damaged_replica_is_passed_over(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    good, bad = tmp_path / "a name, é.dat", tmp_path / "bad.dat"
    one = described(good, b"content" * 1000)
    bad.write_bytes(b"damaged" * 1000)
    replicas = [
        {"se": "gone-se", "url": (tmp_path / "gone").as_uri()},
        {"se": "bad-se", "url": bad.as_uri()},
        {"se": "far-se", "url": "https://far.example.org/x"},
        *one["replicas"],
    ]
    listed = inputs.fetch_data([{**one, "replicas": replicas}], work, lambda: None)
    assert listed == [{"lfn": "/astro/a name, é.dat", "path": "a name, é.dat"}]
    assert (work / good.name).read_bytes() == good.read_bytes()
    assert (work / good.name).stat().st_mode & 0o777 == 0o444


def test_every_replica_is_told_when_none_serves(tmp_path: Path) -> None:
    one = described(tmp_path / "x", b"content", size_bytes=3)
    work = tmp_path / "work"
    work.mkdir()
    one["replicas"].append({"se": "gone-se", "url": (tmp_path / "gone").as_uri()})
    with pytest.raises(Fault, match=r"/astro/x.*local-se: it has 7 bytes.*gone-se: .*ENOENT"):
        inputs.fetch_data([one], work, lambda: None)
    assert not list(work.iterdir())


def test_inputs_of_one_name_stand_under_their_whole_lfns(tmp_path: Path) -> None:
    one = described(tmp_path / "x", b"content")
    work = tmp_path / "work"
    work.mkdir()
    (work / "from-sandbox").write_text("other")
    given = [one, {**one, "lfn": "/astro/other/x"}, {**one, "lfn": "/astro/from-sandbox"}, {**one, "lfn": "/astro/y"}]
    listed = inputs.fetch_data(given, work, lambda: None)
    assert [each["path"] for each in listed] == ["astro/x", "astro/other/x", "astro/from-sandbox", "y"]
    assert all((work / each["path"]).read_bytes() == b"content" for each in listed)
