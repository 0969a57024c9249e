"""What a payload finds in its directory: nothing outside of it, and nothing that was not verified."""

import gzip
import io
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from spinor_pilot import inputs, workplace
from spinor_pilot.faults import Fault, Lost
from spinor_pilot.isolation import Home, Inside


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


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("kept")
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def is_untouched(work: Path) -> bool:
    outside = work.parent / "outside"
    return [path.name for path in work.parent.iterdir() if path != work] == ["outside"] and (
        [(path.name, path.is_symlink(), path.read_text()) for path in outside.iterdir()] == [("kept", False, "kept")]
    )


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.SYMTYPE, target), b""


@pytest.mark.parametrize(
    "target",
    [
        "l/..",  # By its letters it stays, and the kernel goes by the link.
        "l/l/../..",
        "l/l/../../outside",
        "nothing/..",  # What comes later may be a link of this name.
        "d/e/../../..",
        "file/../x",
        "../outside",
        "/",
        "",
    ],
)
@pytest.mark.parametrize("linked_at", ["before", "after", "in another archive"])
def test_no_link_leads_out_through_another(work: Path, target: str, linked_at: str) -> None:
    other, bad = link("l", "d/.."), link("out", target)
    parts = {"before": [[other, bad]], "after": [[bad, other]], "in another archive": [[other], [bad]]}[linked_at]
    parts[0] = [(member("d/e", tarfile.DIRTYPE), b""), (member("file"), b"x"), *parts[0]]
    with pytest.raises(Fault, match=r"sandbox 1.*leads out"):
        for each in parts:
            inputs.unpack(archive(*each), work, "sandbox 1")
    assert not os.path.lexists(work / "out")
    assert is_untouched(work)


def test_links_that_stay_are_kept_as_they_are(work: Path) -> None:
    targets = {"d/up": "../file", "d/e/top": "../..", "back": "d/e/../../file", "through": "d/up", "later": "nothing"}
    inputs.unpack(
        archive(
            (member("file"), b"x"),
            (member("d/e", tarfile.DIRTYPE), b""),
            *(link(name, target) for name, target in targets.items()),
        ),
        work,
        "sandbox 1",
    )
    assert {name: str((work / name).readlink()) for name in targets} == targets
    assert (work / "through").read_bytes() == (work / "back").read_bytes() == b"x"


@pytest.mark.parametrize(
    "second",
    [
        (member("out/evil"), b"x"),
        (member("out/evil", tarfile.DIRTYPE), b""),
        link("out/evil", "x"),
        link("out/kept", "x"),
    ],
    ids=["file", "directory", "link", "link in place of a file"],
)
def test_a_second_sandbox_does_not_follow_the_links_of_the_first(work: Path, second: tuple[Any, bytes]) -> None:
    (work / "out").symlink_to("../outside")  # Even one that should not be there.
    with pytest.raises(Fault, match="sandbox 2"):
        inputs.unpack(archive(second), work, "sandbox 2")
    assert is_untouched(work)


def test_a_link_is_replaced_and_not_written_through(work: Path) -> None:
    (work / "out").symlink_to("../outside/kept")
    inputs.unpack(archive((member("out", mode=0o777), b"mine")), work, "sandbox 2")
    assert (work / "out").read_text() == "mine"
    assert is_untouched(work)


def test_a_file_in_the_way_is_told_as_the_jobs_own_fault(work: Path) -> None:
    with pytest.raises(Fault, match=r"'x/y' of sandbox 1.*ENOTDIR") as caught:
        inputs.unpack(archive((member("x"), b""), (member("x/y"), b"")), work, "sandbox 1")
    assert caught.value.error_class == "payload"


def test_input_data_does_not_follow_links_of_a_sandbox(work: Path) -> None:
    one = described(work.parent / "outside" / "kept", b"kept")
    (work / "kept").write_text("taken")
    (work / "astro").symlink_to("../outside")
    with pytest.raises(Fault, match="/astro/new"):
        inputs.fetch_data([{**one, "lfn": "/astro/new"}, {**one, "lfn": "/other/new"}], work, lambda: None)
    with pytest.raises(Fault, match="the same name 'astro/kept'"):
        inputs.fetch_data([one], work, lambda: None)
    (work / "dangling").symlink_to("../outside/new")
    listed = inputs.fetch_data([{**one, "lfn": "/other/dangling"}], work, lambda: None)
    assert [each["path"] for each in listed] == ["other/dangling"]
    assert is_untouched(work)


@pytest.mark.parametrize("name", ["out/kept", "kept", "../outside/kept"])
def test_no_executable_outside_gets_a_permission(work: Path, name: str) -> None:
    kept = work.parent / "outside" / "kept"
    kept.chmod(0o640)
    (work / "out").symlink_to("../outside")
    (work / "kept").symlink_to("../outside/kept")
    workplace._executable(name, Home(work.parent), Inside("/job", "/tmp", "/spinor"))
    assert kept.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["run.sh", "bin/run.sh", "link"])
def test_an_executable_of_the_job_gets_its_permission(work: Path, name: str) -> None:
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "bin").symlink_to(".")
    (work / "link").symlink_to("bin/run.sh")
    (work / "run.sh").chmod(0o644)
    assert workplace._executable(name, Home(work.parent), Inside("/job", "/tmp", "/spinor")) == f"/job/{name}"
    assert (work / "run.sh").stat().st_mode & 0o777 == 0o744


def test_sandboxes_take_no_more_than_the_disk_of_the_job(work: Path) -> None:
    room = inputs.Room(2_000_000, lambda: False)
    inputs.unpack(archive((member("a"), bytes(1_500_000))), work, "sandbox 1", room.take)
    with pytest.raises(Fault, match="2,000,000 bytes of disk"):
        inputs.unpack(archive((member("b"), bytes(1_500_000))), work, "sandbox 2", room.take)


def test_unpacking_ends_when_nobody_wants_the_job(work: Path) -> None:
    asked = iter([False, False, False])
    room = inputs.Room(1 << 40, lambda: next(asked, True))
    with pytest.raises(Lost):
        inputs.unpack(archive((member("a"), bytes(50 << 20))), work, "sandbox 1", room.take)
    assert (work / "a").stat().st_size < 4 << 20


def test_a_small_archive_stays_small(work: Path) -> None:
    """It is compressed nowhere, and a sparse file would take what it says and not what it has."""
    packed = io.BytesIO(gzip.compress(archive((member("a"), bytes(10 << 20))).read()))
    with pytest.raises(Fault, match="not a tar archive"):
        inputs.unpack(packed, work, "sandbox 1")
    sparse = member("a")
    sparse.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 40), "GNU.sparse.realsize": str(1 << 40)}
    with pytest.raises(Fault, match="sandbox 1"):
        inputs.unpack(archive((sparse, b"x")), work, "sandbox 1")
    assert not list(work.iterdir())


def test_a_size_below_nothing_is_refused(work: Path) -> None:
    """Some versions of Python read such an archive for ever."""
    info = member("a")
    info.size = -1024
    header = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(Fault, match="sandbox 1"):
        inputs.unpack(io.BytesIO(header + bytes(1024)), work, "sandbox 1")


def test_a_path_of_a_thousand_directories_is_refused(work: Path) -> None:
    with pytest.raises(Fault, match="more than 1000 bytes"):
        inputs.unpack(archive((member("d/" * 1000 + "x"), b"")), work, "sandbox 1")
    assert not list(work.iterdir())
