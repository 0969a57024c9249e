"""What `register-manifest` sends of each column, seen at a stand-in for the client's wire."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.catalog.manifests.batches import split_paths

from .stand_in import SERVER, StandIn, spinor, use


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return use(monkeypatch, SERVER)


def test_every_column_travels_as_the_route_wants_it(wire: StandIn, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(
        "lfn,size,adler32,sha256,guid,pfn,se,created,metadata\n"
        f"/astro/d/a,1,0000000a,{'0a' * 32},0A000000-0000-4000-8000-000000000001,x/y,one-se,2026-11-27T06:00:00Z,"
        '"{""run"": 5}"\n'
        "/astro/b,2,,,,,two-se,,\n/astro/b,2,,,,,one-se,2026-11-27 06:00:00,\n"
    )
    assert spinor("file", "register-manifest", str(tmp_path / "m.csv")) == 0
    query = {"directory": "/astro"}
    assert [(address, found) for address, found, _ in wire.sent] == [("/api/files/register-batch", query)] * 3
    schema = wire.sent[1][2].schema
    assert {name: str(schema.field(name).type) for name in schema.names} == {
        "path": "dictionary<values=string, indices=int32, ordered=0>", "name": "string", "size_bytes": "int64",
        "adler32": "int64", "sha256": "fixed_size_binary[32]", "guid": "fixed_size_binary[16]", "pfn": "string",
        "se": "dictionary<values=string, indices=int32, ordered=0>", "created_at": "timestamp[us, tz=UTC]",
        "metadata": "string",
    }  # fmt: skip
    at = datetime(2026, 11, 27, 6, tzinfo=UTC)
    empty = dict.fromkeys(["adler32", "sha256", "guid", "pfn", "created_at", "metadata"])
    assert wire.rows() == [
        {
            "path": "d", "name": "a", "size_bytes": 1, "adler32": 10, "sha256": b"\n" * 32,
            "guid": bytes.fromhex("0a000000000040008000000000000001"), "pfn": "x/y", "se": "one-se", "created_at": at,
            "metadata": '{"run": 5}',
        },
        {**empty, "path": "", "name": "b", "size_bytes": 2, "se": "two-se"},
        # The second replica goes after the first one, in a table of its own.
        {**empty, "path": "", "name": "b", "size_bytes": 2, "se": "one-se", "created_at": at},
    ]  # fmt: skip


def test_urls_below_the_root_become_places(wire: StandIn, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(
        "root://host:1094//eos/one-se/astro/d/a 1\n/eos/one-se/astro/d/b 2\nastro/c 3\n//eos/one-se//astro/e 4\n"
    )
    words = ["--columns", "pfn=1,size_bytes=2", "--skip-broken"]
    assert spinor("file", "register-manifest", str(tmp_path / "list"), "--se", "one-se", *words) == 1
    assert wire.sent[1][1] == {"directory": "/astro", "se": "one-se"}
    assert [(row["path"], row["name"]) for row in wire.rows()] == [("d", "a"), ("d", "b"), ("", "c")]


def test_broken_values_of_the_rarer_columns(wire: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for column, value, reason in [
        ("created_at", "yesterday", "write it like 2026-11-27T06:00:00Z"),
        ("created_at", "0001-01-01T00:00:00+14:00", "is no time"),
        ("metadata", '"[1]"', "is no JSON object of plain values"),
        ("metadata", '"{""a"": {}}"', "is no JSON object of plain values"),
        ("pfn", "/elsewhere/x", "is not below root://host:1094//eos/one-se, the root of one-se"),
        ("pfn", "a/../../x", "has a part that is empty, . or .."),
        ("se", "three-se", "is no storage element of your VO; there are: one-se, two-se"),
    ]:
        (tmp_path / "m.csv").write_text(f"lfn,size,{column}\n/astro/a,1,\n/astro/b,1,{value}\n")
        assert spinor("file", "register-manifest", str(tmp_path / "m.csv"), "--se", "one-se") == 2
        err = capsys.readouterr().err
        assert f"m.csv, line 3, column {column}: " in err
        assert reason in err
    assert wire.rows() == []


@given(st.lists(st.text(alphabet="a/ü😀", max_size=8)), st.integers(0, 3))
def test_paths_are_split_as_python_would(paths: list[str], skip: int) -> None:
    directories, names = split_paths(pa.array(paths, pa.string()).slice(skip))
    wanted = [path.rpartition("/") for path in paths[skip:]]
    assert directories.to_pylist() == [directory for directory, _, _ in wanted]
    assert names.to_pylist() == [name for _, _, name in wanted]
