"""`spinor file metadata import` and `extract`, seen at a stand-in for the client's wire."""

import gzip
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from spinor.catalog.extraction import extract, registry
from spinor.catalog.extraction.plugin import GROUP, MissingLibrary, NoMetadata
from spinor.catalog.manifests import metadata

from .stand_in import StandIn, spinor, use

KEYS = [
    {"name": "run", "type": "integer"}, {"name": "seeing", "type": "float"}, {"name": "good", "type": "boolean"},
    {"name": "observed", "type": "timestamp"}, {"name": "target", "type": "text"},
]  # fmt: skip


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    def changed(table: pa.Table) -> Any:
        refused = [{"lfn": lfn, "reason": "there is no such file"} for lfn in table["lfn"].to_pylist() if "gone" in lfn]
        return {"changed": table.num_rows - len(refused), "refused": refused}

    return use(monkeypatch, {"/api/files/metadata-keys": KEYS, "/api/files/metadata/batch": changed})


def sent(wire: StandIn) -> dict[str, dict[str, Any]]:
    return {row["lfn"]: json.loads(row["metadata"]) for row in wire.rows()}


def test_a_table_is_typed_by_the_declared_keys(wire: StandIn, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "lfn,run,seeing,good,observed,target,note,count\n"
        "/astro/a,5,1.5,TRUE,2026-11-27T06:00:00Z,007,some text,12\n"
        "/astro/b,,2,0,,,,\n"
        "/astro/c,,,,,,,\n"
        '/astro/d,,,,,"M 31, north",true,1e3\n'
    )
    assert spinor("file", "metadata", "import", str(tmp_path / "t.csv")) == 0
    assert sent(wire) == {
        "/astro/a": {
            "run": 5, "seeing": 1.5, "good": True, "observed": "2026-11-27T06:00:00Z", "target": "007",
            "note": "some text", "count": 12,
        },
        "/astro/b": {"seeing": 2.0, "good": False},
        "/astro/d": {"target": "M 31, north", "note": True, "count": 1000.0},
    }  # fmt: skip
    assert wire.sent[0][2].schema.types == [pa.string(), pa.string()]


def test_a_parquet_table_keeps_its_types(wire: StandIn, tmp_path: Path) -> None:
    table = pa.table({
        "name": ["a", "b"], "run": pa.array([5, None], pa.int16()), "seeing": [1.0, float("nan")],
        "observed": [datetime(2026, 11, 27, 6, tzinfo=UTC), None], "code": ["007", None], "target": pa.array([7, 8]),
    })  # fmt: skip
    pa.parquet.write_table(table, tmp_path / "t")
    words = ["--lfn-column", "name", "--below", "/astro"]
    assert spinor("file", "metadata", "import", str(tmp_path / "t"), *words) == 0
    assert sent(wire) == {
        "/astro/a": {"run": 5, "seeing": 1.0, "observed": "2026-11-27T06:00:00Z", "code": "007", "target": "7"},
        "/astro/b": {"target": "8"},
    }


def test_a_broken_line_is_told_and_nothing_is_set(
    wire: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line, column, reason in [
        ("/astro/x,five,,", "run", "'five' is not a whole number, as the key is declared"),
        ("/astro/x,1.5,,", "run", "'1.5' is not a whole number"),
        ("/astro/x,1_0,,", "run", "'1_0' is not a whole number"),
        ("/astro/x,,nan,", "seeing", "'nan' is not a number"),
        ("/astro/x,,,perhaps", "good", "'perhaps' is not true or false"),
        ("/astro/x,,", "", "has 3 columns"),
        ("astro/x,1,,", "lfn", "does not begin with /"),
        ("/astro//x,1,,", "lfn", "is empty"),
        (",1,,", "lfn", "is missing"),
    ]:
        wire.sent.clear()
        (tmp_path / "t.csv").write_text(f"lfn,run,seeing,good\n/astro/a,1,,\n{line}\n/astro/gone,3,,\n")
        assert spinor("file", "metadata", "import", str(tmp_path / "t.csv")) == 2
        err = capsys.readouterr().err
        assert f"t.csv, line 3{f', column {column}' if column else ''}: " in err
        assert reason in err
        assert "nothing was sent" in err
        assert not wire.sent
        assert spinor("file", "metadata", "import", str(tmp_path / "t.csv"), "--skip-broken", "--json") == 1
        assert sent(wire) == {"/astro/a": {"run": 1}, "/astro/gone": {"run": 3}}
        *told, sums = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert sorted(t["problem"] for t in told) == ["broken", "refused"]
        assert (sums["files"], sums["changed"], sums["broken"], sums["refused"]) == (2, 1, 1, 1)


def test_tables_that_cannot_be_used_at_all(wire: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for head, words, reason in [
        ("name,run", [], "has no column 'lfn' (it has name, run); say which one has the LFN: --lfn-column NAME"),
        ("lfn,size", [], "'size' is a field that every file has; choose and rename columns with --keys"),
        ("lfn,my run", [], "is not a key"),
        ("lfn,run,run", [], "comes twice"),
        ("lfn,run", ["--keys", "RUN=run"], "has no column 'RUN'"),
    ]:
        (tmp_path / "t.csv").write_text(f"{head}\n")
        assert spinor("file", "metadata", "import", str(tmp_path / "t.csv"), *words) == 2
        assert reason in capsys.readouterr().err
    (tmp_path / "t.csv").write_text("lfn,size,my run\n/astro/a,5,6\n")
    words = ["--keys", "my run=run,size=bytes_there"]
    assert spinor("file", "metadata", "import", str(tmp_path / "t.csv"), *words, "--dry-run") == 0
    assert capsys.readouterr().out == "/astro/a  run=6  bytes_there=5\n"
    assert not wire.sent


def test_many_files_go_in_batches_and_values_of_one_file_together(
    wire: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "BATCH_ROWS", 10)
    lines = [f"/astro/f{n},{n}" for n in range(95)]
    (tmp_path / "t.csv").write_text("\n".join(["lfn,run", *lines[:5], "/astro/f3,33", *lines[5:]]))
    assert spinor("file", "metadata", "import", str(tmp_path / "t.csv")) == 0
    assert len(wire.sent) == 10
    assert sent(wire) == {f"/astro/f{n}": {"run": n if n != 3 else 33} for n in range(95)}


def fits(*cards: str) -> bytes:
    text = "".join(card.ljust(80) for card in ("SIMPLE  =                    T", *cards, "END"))
    return text.ljust(-(-len(text) // 2880) * 2880).encode() + b"\0" * 2880


CARDS = [
    "BITPIX  =                    8", "NAXIS   =                    0", "RUN     =                   42 / the run",
    "EXPTIME =              1.5D+02", "FILTER  = 'R''   '           / a ' and / inside",
    "GOOD    =                    T",
    "DATE-OBS= '2026-11-27T06:00:00'", "EMPTY   =", "PHASE   =           (1.0, 2.0)", "COMMENT RUN = 7",
    "HIERARCH ESO DET ID = 'CCD/1' / long", "LONG    = 'first &'", "CONTINUE  'second'  / and a comment",
]  # fmt: skip
FITS_VALUES = {
    "RUN": 42, "EXPTIME": 150.0, "FILTER": "R'", "GOOD": True, "DATE-OBS": "2026-11-27T06:00:00",
    "ESO.DET.ID": "CCD/1", "LONG": "first second",
}  # fmt: skip


def test_extraction_by_format(tmp_path: Path) -> None:
    table = pa.table({"x": [1]}).replace_schema_metadata({"run": "5", "pandas": "{}"})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    for name, content, expected in [
        ("a.fits", fits(*CARDS), FITS_VALUES),
        ("A.FITS.gz", gzip.compress(fits(*CARDS)), FITS_VALUES),
        (
            "a.json",
            b'{"run": 5, "x": 1.5, "ok": true, "none": null, "deep": {"a": 1}, "list": [1], "size": 3, "no key": 1}',
            {"run": 5, "x": 1.5, "ok": True},
        ),
        (
            "a.yml",
            b"run: 5\nday: 2026-11-27\nat: 2026-11-27T06:00:00Z\n1: one\ndeep: {a: 1}\n",
            {"run": 5, "day": "2026-11-27", "at": "2026-11-27T06:00:00Z"},
        ),
        ("a.parquet", None, {"run": "5"}),
        ("a.arrow", None, {"run": "5"}),
    ]:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert extract(tmp_path / name) == expected, name


def test_files_that_are_not_what_their_names_say(tmp_path: Path) -> None:
    for name, content in [
        ("a.fits", b"not at all"), ("b.fits", fits(*CARDS)[:800]), ("c.fits", fits("RUN     = \xe9")),
        ("d.fits.gz", b"plain"), ("e.fits.gz", gzip.compress(fits(*CARDS))[:60]), ("f.json", b"{"), ("g.json", b"[1]"),
        ("h.json", b"[" * 100_000), ("i.yaml", b"a: [\n"), ("j.yaml", b"\xff"), ("k.parquet", b"PAR1"),
        ("l.arrow", b""), ("m.dat", b""),
    ]:  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NoMetadata, match=name):
            extract(tmp_path / name)


def test_hdf5_attributes_or_the_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingLibrary, match="pip install h5py"):
        extract(tmp_path / "a.h5")
    monkeypatch.undo()
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.attrs.update({"run": 5, "site": "La Silla", "gains": [1.0, 2.0], "x": 1.5})
    assert extract(tmp_path / "b.h5") == {"run": 5, "site": "La Silla", "x": 1.5}
    with pytest.raises(NoMetadata, match=r"a\.h5"):
        extract(tmp_path / "a.h5")


def test_extract_sets_what_fits_and_tells_the_rest(
    wire: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.fits").write_bytes(fits(*CARDS))
    (tmp_path / "b.json").write_text('{"RUN": "many"}')
    (tmp_path / "list").write_text(
        f"/astro/b={tmp_path}/b.json\n\n/astro/c={tmp_path}/absent.json\n/astro/d={tmp_path}/list\nnothing\n"
    )
    words = [f"/astro/a={tmp_path}/a.fits", "--from", str(tmp_path / "list"), "--keys", "RUN=run,DATE-OBS=observed"]
    assert spinor("file", "metadata", "extract", *words) == 1
    assert sent(wire) == {"/astro/a": {"run": 42, "observed": "2026-11-27T06:00:00"}}
    err = capsys.readouterr().err
    for reason in (
        "RUN: 'many' is not a whole number, as the key run is declared", "No such file or directory",
        "nothing here reads metadata from such a file", "nothing, line 5: is not LFN=LOCALFILE",
    ):  # fmt: skip
        assert reason in err
    assert "1 files, 1 changed, 4 broken, 0 refused" in err
    wire.sent.clear()
    assert spinor("file", "metadata", "extract", words[0], "--keys", "RUN=run,GOOD", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"lfn": "/astro/a", "metadata": {"run": 42, "GOOD": True}}
    assert not wire.sent
    assert spinor("file", "metadata", "extract") == 2


def test_an_extractor_of_another_package_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Better:
        endings: tuple[str, ...] = (".json", ".root")

        def extract(self, path: Path) -> dict[str, Any]:
            return {"reader": "better", "name": path.name}

    class Entry:
        def load(self) -> Any:
            return Better()

    registry.extractors.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(registry, "entry_points", lambda group: [Entry()] if group == GROUP else [])
        # A name is a field that every file has, and no metadata.
        assert extract(tmp_path / "x.root") == {"reader": "better"}
        assert extract(tmp_path / "x.json") == {"reader": "better"}
    registry.extractors.cache_clear()
