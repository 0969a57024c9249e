"""Reports, what is done about them, and what takes it back."""

import http.client
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from spinor.catalog.fsck import carrying, checking, repairing
from spinor.catalog.fsck.changes import (
    AddReplica,
    Change,
    ClearChecksum,
    DeleteBytes,
    KeepBytes,
    Register,
    RemoveReplica,
    SetChecksum,
    SetStatus,
    Unregister,
    inverse,
)
from spinor.catalog.fsck.checking import CatalogBrokenOff, catalog_rows
from spinor.catalog.fsck.comparing import CATALOG, LISTING, Rules, Sides
from spinor.catalog.fsck.findings import Finding, Kind
from spinor.catalog.fsck.partitions import NoRoomToCompare
from spinor.catalog.fsck.repairing import Choices, DarkRepair, Left, LostRepair, NothingInCommon
from spinor.catalog.fsck.reports import BadReport, Header, Report, ReportWriter
from spinor.catalog.fsck.undoing import RepairLog, read_log
from spinor.errors import NotFound

AT = datetime(2026, 11, 27, 6, 30, 1, 250_000, tzinfo=UTC)
SE = "disk"
DARK = Finding(
    kind="dark", se=SE, pfn="d/é\n", storage_size_bytes=5, storage_adler32="00000abc", storage_modified_at=AT
)
LOST = Finding(
    kind="lost", se=SE, lfn="/vo/l", pfn="l", size_bytes=2**62, adler32="ffffffff", status="available", created_at=AT
)
SIZE = Finding(
    kind="size", se=SE, lfn="/vo/s", pfn="s", size_bytes=1, adler32="00000001", status="available", created_at=AT,
    storage_size_bytes=2,
)  # fmt: skip
FOREIGN = Finding(kind="guid-differs", lfn="/vo/g", more={"here": "a", "there": ["b", None], "names": 3})
ALL = [DARK, LOST, SIZE, FOREIGN]


def header(check: str = "storage") -> Header:
    return Header(check=check, service="https://spinor.example", vo="vo", se=SE, facts={"listing": "d.txt"})


def written(path: Path, findings: Sequence[Finding], counts: dict[str, int] | None = None) -> Report:
    with ReportWriter(path, header()) as report:
        for finding in findings:
            report.tell(finding)
        report.finish(counts or {"equal": 10})
    return Report(path)


@pytest.mark.parametrize("name", ["report.ndjson", "report.parquet"])
def test_a_report_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    report = written(tmp_path / name, ALL * 9000, {"equal": 10, Kind.DARK: 4})
    assert list(report.findings()) == ALL * 9000
    assert list(report.findings()) == ALL * 9000
    assert (report.header.service, report.header.se, report.header.facts) == (
        "https://spinor.example", SE, {"listing": "d.txt"},
    )  # fmt: skip
    assert report.footer.counts == {"equal": 10, "dark": 4}
    assert report.footer.findings == 36_000


@pytest.mark.parametrize("name", ["report.ndjson", "report.parquet"])
def test_a_report_that_was_broken_off_is_not_acted_on(tmp_path: Path, name: str) -> None:
    with pytest.raises(ZeroDivisionError):
        with ReportWriter(tmp_path / name, header()) as report:
            report.tell(DARK)
            raise ZeroDivisionError
    with pytest.raises(BadReport, match="broken off"):
        Report(tmp_path / name)


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"x\n", b"\xff\n", b'{"record":"footer"}\n', b"PAR1", b"PAR1 and no more PAR1"):
        (tmp_path / "r").write_bytes(content)
        with pytest.raises(BadReport):
            Report(tmp_path / "r")
    with pytest.raises(NotFound):
        Report(tmp_path / "missing")


def test_a_changed_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "report.ndjson"
    written(path, [DARK, LOST])
    path.write_bytes(path.read_bytes().replace(b'"kind":"lost"', b'"kind":17'))
    with pytest.raises(BadReport, match="line 3"):
        list(Report(path).findings())


def test_the_whole_check(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    rules = Rules(se=SE, listed_at=AT)
    listing = pa.record_batch([["a", "b"], [1, 1], [5, 6], [None, None]], schema=LISTING)
    catalog = pa.record_batch([["b", "c"], ["/vo/b", "/vo/c"], [1, 1], [6, 7], ["available"] * 2, [None] * 2], CATALOG)
    counts = {"outside": 3}
    with ReportWriter(tmp_path / "r.ndjson", checking.header(rules, "https://spinor.example", "vo", "dump")) as report:
        checking.undecodable(report, SE, counts)("x\\xff", "the name is not valid UTF-8")
        sides = Sides(listing=[listing], catalog=lambda: catalog_rows(io.BytesIO(stream([catalog]))))
        footer = checking.check(report, rules, sides, work, lambda: counts)
    assert (footer.counts["dark"], footer.counts["lost"], footer.counts["equal"], footer.counts["outside"]) == (
        1,
        1,
        1,
        3,
    )
    found = {finding.kind: finding for finding in Report(tmp_path / "r.ndjson").findings()}
    assert (found["dark"].pfn, found["lost"].lfn) == ("a", "/vo/c")
    assert found["undecodable"].more == {"name": "x\\xff", "reason": "the name is not valid UTF-8"}
    assert not any(work.iterdir())


def test_a_work_directory_that_is_not_there(tmp_path: Path) -> None:
    with ReportWriter(tmp_path / "r.ndjson", header()) as report:
        with pytest.raises(NoRoomToCompare, match="make it"):
            checking.check(report, Rules(se=SE, listed_at=AT), Sides(listing=[], catalog=list), tmp_path / "missing")


def stream(batches: Sequence[pa.RecordBatch]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def test_a_catalog_that_is_broken_off_is_noticed() -> None:
    """At any byte: also between two batches, where Arrow notices nothing."""
    batch = pa.record_batch({"pfn": ["a", "b"]})
    whole = stream([batch, batch])
    assert [got.num_rows for got in catalog_rows(io.BytesIO(whole))] == [2, 2]
    for end in range(len(whole)):
        with pytest.raises(CatalogBrokenOff):
            list(catalog_rows(io.BytesIO(whole[:end])))


def test_a_connection_that_breaks_is_noticed() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise http.client.IncompleteRead(b"")

    with pytest.raises(CatalogBrokenOff):
        list(catalog_rows(Broken()))


def done(finding: Finding, **choices: object) -> Change | Left:
    (change,) = repairing.changes([finding], Choices(**choices))  # type: ignore[arg-type]
    return change


def test_each_kind_has_its_repair() -> None:
    assert done(SIZE) == SetStatus(lfn="/vo/s", se=SE, before="available", after="unavailable")
    assert done(LOST) == SetStatus(lfn="/vo/l", se=SE, before="available", after="unavailable")
    assert done(LOST, lost=LostRepair.REMOVE) == RemoveReplica(lfn="/vo/l", se=SE, pfn="l", status="available")
    assert done(DARK, dark=DarkRepair.DELETE) == DeleteBytes(se=SE, pfn="d/é\n")
    adopted = done(DARK, dark=DarkRepair.ADOPT, adopt_below="/vo/found/")
    assert adopted == Register(lfn="/vo/found/d/é\n", se=SE, pfn="d/é\n", size_bytes=5, adler32="00000abc")
    no_checksum = Finding(
        kind="no-checksum", se=SE, lfn="/vo/n", pfn="n", size_bytes=5, storage_size_bytes=5, storage_adler32="00000007"
    )
    assert done(no_checksum) == SetChecksum(lfn="/vo/n", se=SE, adler32="00000007")
    returned = Finding(kind="returned", se=SE, lfn="/vo/r", pfn="r", storage_size_bytes=5, status="unavailable")
    assert done(returned) == SetStatus(lfn="/vo/r", se=SE, before="unavailable", after="available")


@pytest.mark.parametrize(
    "finding",
    [
        DARK,  # By default.
        FOREIGN,
        Finding(kind="double", se=SE, lfn="/vo/d", pfn="d"),
        Finding(kind="undecodable", se=SE, more={"name": "x"}),
        Finding(kind="unchecked", se=SE, lfn="/vo/u", pfn="u", size_bytes=1),
        Finding(kind="size", se=SE, lfn="/vo/s", pfn="s", status="unavailable"),
        Finding(kind="returned", se=SE, lfn="/vo/r", pfn="r", status="unavailable"),  # Of the same name, no more.
        Finding(kind="no-checksum", se=SE, lfn="/vo/n", pfn="n", adler32="00000001", storage_size_bytes=1,
                storage_adler32="00000002"),  # Never overwritten.
        Finding(kind="no-checksum", se=SE, lfn="/vo/n", pfn="n", storage_adler32="00000002"),
    ],
)  # fmt: skip
def test_what_is_not_known_for_sure_is_left(finding: Finding) -> None:
    left = done(finding)
    assert isinstance(left, Left)
    assert left.finding == finding


def test_what_has_no_size_is_not_adopted() -> None:
    unknown = Finding(kind="dark", se=SE, pfn="d")
    assert isinstance(done(unknown, dark=DarkRepair.ADOPT, adopt_below="/vo/found"), Left)


def test_checksums_come_from_the_bytes_only_if_the_size_is_right() -> None:
    lacking = [Finding(kind="unchecked", se=SE, lfn=f"/vo/{n}", pfn=f"{n}", size_bytes=n) for n in range(250)]
    asked: list[str] = []

    def read(pfns: Sequence[str]) -> list[tuple[int, str] | None]:
        asked.extend(pfns)
        return [None if pfn == "3" else (int(pfn) + (pfn == "4"), "00000009") for pfn in pfns]

    got = list(repairing.changes([*lacking, SIZE], Choices(read=read)))
    assert asked == [finding.pfn for finding in lacking]
    left = [change.finding.pfn for change in got if isinstance(change, Left)]
    assert left == ["3", "4"]
    assert SetChecksum(lfn="/vo/249", se=SE, adler32="00000009") in got
    assert len(got) == 251


def test_nothing_in_common_is_not_repaired(tmp_path: Path) -> None:
    path = tmp_path / "r.ndjson"
    with pytest.raises(NothingInCommon, match="7 are dark and 2 lost"):
        repairing.checked(written(path, [LOST], {"dark": 7, "lost": 2, "equal": 0}))
    repairing.checked(written(path, [LOST], {"dark": 7, "lost": 2, "equal": 1}))
    repairing.checked(written(path, [LOST], {"dark": 0, "lost": 2, "equal": 0, "checksum": 1}))


CHANGES: list[Change] = [
    Register(lfn="/vo/a", se=SE, pfn="a", size_bytes=1, adler32="00000001"),
    Unregister(lfn="/vo/b", se=SE, pfn="b", size_bytes=1),
    AddReplica(lfn="/vo/c", se=SE, pfn="c", status="available"),
    RemoveReplica(lfn="/vo/d", se=SE, pfn="d", status="available"),
    SetStatus(lfn="/vo/e", se=SE, before="available", after="unavailable"),
    SetChecksum(lfn="/vo/f", se=SE, adler32="00000001"),
    ClearChecksum(lfn="/vo/g", se=SE, adler32="00000001"),
    DeleteBytes(se=SE, pfn="h"),
    KeepBytes(se=SE, pfn="i"),
]


def test_every_change_has_one_that_takes_it_back() -> None:
    for change in CHANGES:
        assert inverse(change) != change
        assert inverse(inverse(change)) == change


def test_a_repair_is_taken_back_from_its_log(tmp_path: Path) -> None:
    with RepairLog(tmp_path / "log", header("repair")) as log:
        assert list(log.asking(CHANGES[:5])) == [0, 1, 2, 3, 4]
        log.refused({1: "it is not there", 4: "it has changed"})
        assert list(log.asking(CHANGES[5:])) == [5, 6, 7, 8]
    head, back = read_log(tmp_path / "log")
    assert head.vo == "vo"
    assert list(back) == [inverse(change) for n, change in enumerate(CHANGES) if n not in (1, 4)]
    with pytest.raises(FileExistsError):
        RepairLog(tmp_path / "log", header("repair"))


def test_a_log_of_a_killed_repair_is_taken_back(tmp_path: Path) -> None:
    with RepairLog(tmp_path / "log", header("repair")) as log:
        log.asking(CHANGES[:2])
    data = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(data[:-5])  # The second change was not on the disk yet, so nobody was asked for it.
    assert list(read_log(tmp_path / "log")[1]) == [inverse(CHANGES[0])]
    (tmp_path / "log").write_bytes(data.replace(b'"register"', b'"regist"', 1))
    with pytest.raises(BadReport, match="line 2"):
        list(read_log(tmp_path / "log")[1])


def test_changes_are_carried_out_in_batches_of_a_kind(tmp_path: Path) -> None:
    asked: list[list[Change]] = []
    left: list[Left] = []

    def ask(batch: Sequence[Change]) -> dict[int, str]:
        asked.append(list(batch))
        return {len(batch) - 1: "it has changed"}

    todo: list[Change | Left] = [DeleteBytes(se=SE, pfn=f"{n}") for n in range(1500)]
    todo += [Left(finding=DARK, reason="it stays"), *CHANGES[:2]]
    with RepairLog(tmp_path / "log", header("repair")) as log:
        counts = carrying.carry_out(todo, log, ask, left.append)
    assert [len(batch) for batch in asked] == [1000, 500, 1, 1]
    assert counts == {"delete-bytes": 1498, "register": 0, "unregister": 0, "refused": 4, "left": 1}
    assert len(left) == 1
    back = list(read_log(tmp_path / "log")[1])
    assert back == [KeepBytes(se=SE, pfn=f"{n}") for n in range(1500) if n not in (999, 1499)]
    assert carrying.planned(todo) == {"delete-bytes": 1500, "left": 1, "register": 1, "unregister": 1}


def test_a_batch_whose_answer_never_came_is_taken_back(tmp_path: Path) -> None:
    def ask(batch: Sequence[Change]) -> dict[int, str]:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        with RepairLog(tmp_path / "log", header("repair")) as log:
            carrying.carry_out(CHANGES, log, ask, lambda _: None)
    assert list(read_log(tmp_path / "log")[1]) == [inverse(CHANGES[0])]


def test_a_report_is_no_log(tmp_path: Path) -> None:
    written(tmp_path / "r.ndjson", [DARK])
    with pytest.raises(BadReport):
        read_log(tmp_path / "r.ndjson")
