"""`spinor file register-manifest`: from each format to the catalog, and what is said of bad manifests."""

import bz2
import gzip
import io
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from spinor.catalog.manifests import batches, source
from spinor.db import fetch_rows

from .direct import Commands
from .stand_in import SERVER, use
from .stand_in import spinor as spinor_beside
from .workbench import World, check_sums

Facts = dict[str, Any]


@pytest.fixture
def spinor(world: World, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(world.db, monkeypatch)


async def publish(
    spinor: Commands, world: World, capsys: pytest.CaptureFixture[str], path: Path | str, *words: str, **more: Any
) -> tuple[int, dict[str, int], list[Facts]]:
    """The exit code, the sums, and what was told of."""
    code = await spinor(world.ada, "file", "register-manifest", str(path), "--json", *words, **more)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    sums = told.pop() if told and "problem" not in told[-1] else {}
    return code, sums, told


async def catalog(world: World) -> list[tuple[Any, ...]]:
    """What is registered: LFN, size, adler32, and where its bytes are."""
    async with world.db.transaction() as tx:
        rows = await fetch_rows(
            tx,
            """SELECT d.path || '/' || f.name, f.size_bytes, to_hex(f.adler32 & 4294967295), s.name,
                      COALESCE(r.pfn, l.path || '/' || f.name)
                 FROM catalog.file AS f JOIN catalog.directory AS d USING (directory_id)
                CROSS JOIN unnest(f.se_ids, f.pfns) AS r (se_id, pfn)
                 JOIN resources.storage_element AS s USING (se_id)
                 LEFT JOIN catalog.directory_location AS l USING (directory_id, se_id) ORDER BY 1, 4""",
        )
    return [tuple(row) for row in rows]


EXPECTED = [
    ("/astro/d/x y", 12, "abc", "local-se", "astro/d/x y"),
    ("/astro/e/ü", 0, None, "local-se", "astro/e/ü"),
]
TEXTS = {
    "m.csv": 'lfn,size,adler32,other\n"/astro/d/x y",12,00000abc,1\n/astro/e/ü,0,,2\n',
    "semicolon.csv": "LFN;filesize;checksum\r\n/astro/d/x y;12;00000ABC\r\n\r\n/astro/e/ü;0;\r\n",
    "m.ndjson": '{"lfn": "/astro/d/x y", "size_bytes": 12, "adler32": "00000abc"}\n'
    '{"lfn": "/astro/e/\\u00fc", "size_bytes": "0"}',
    "plain": "/astro/d/x y 12 00000abc\n/astro/e/ü 0 -\n",
    "tabs.txt": "# made today\nastro/d/x y\t12\tadler32:abc\n\nastro/e/ü\t0\tN/A\n",
    "dirac": "local-se|/astro/d/x y|abc|12\nlocal-se|/astro/e/ü||0\n",
    "order": "12|00000abc|/astro/d/x y\n0|-|/astro/e/ü\n",
    "pfns": "{root}/astro/d/x y,12,00000abc\nfile://{root}//astro/e/ü,0,\n",
    "long": "drwxr-xr-x ada users 4096 2026-11-27 06:00:00 /astro/d\n"
    "-rw-r--r-- ada users        12 2026-11-27 06:00:00 {root}/astro/d/x y\n"
    "-rw-r--r-- ada users         0 2026-11-27 06:00:00 {root}/astro/e/ü\n",
    "old-long": "dr-x 2026-11-27 06:00:00       4096 /astro/d\n-r-- 2026-11-27 06:00:00  12 {root}/astro/d/x y\n"
    "-r-- 2026-11-27 06:00:00           0 {root}/astro/e/ü\n",
}


PACKED: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, bz2.compress]


@pytest.mark.parametrize(("name", "compress"), [(name, PACKED[n % 3]) for n, name in enumerate(TEXTS)])
async def test_each_format_is_known_by_its_look(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str,
    compress: Callable[[bytes], bytes],
) -> None:  # fmt: skip
    text = TEXTS[name].replace("{root}", str(world.storage_root))
    (tmp_path / name).write_bytes(compress(text.encode()))
    more = [] if name != "pfns" else ["--columns", "pfn=1,size_bytes=2,adler32=3", "--strip", str(world.storage_root)]
    if name == "pfns":
        (tmp_path / name).write_bytes(compress(text.replace("file://", "").encode()))
    code, sums, told = await publish(spinor, world, capsys, tmp_path / name, "--se", "local-se", *more)
    assert (code, told) == (0, [])
    assert (sums["files"], sums["size_bytes"], sums["registered"]) == (2, 12, 2)
    wanted = EXPECTED if "long" not in name else [(*row[:2], None, *row[3:]) for row in EXPECTED]
    assert await catalog(world) == wanted
    await check_sums(world.db, files=2)
    assert not (tmp_path / f"{name}.progress").exists()


async def test_parquet_with_its_own_types(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pa.table({
        "path": pa.array(["d/x y", "e/ü"]).dictionary_encode(), "size": pa.array([12, 0], pa.int32()),
        "adler32": pa.array([0xABC, None], pa.uint32()), "sha256": pa.array([b"s" * 32, None]),
    })  # fmt: skip
    pa.parquet.write_table(table, tmp_path / "table", row_group_size=1)
    code, sums, told = await publish(
        spinor, world, capsys, tmp_path / "table", "--se", "local-se", "--below", "/astro"
    )  # fmt: skip
    assert (code, sums["registered"], told) == (0, 2, [])
    assert await catalog(world) == EXPECTED


async def test_a_list_of_paths_hangs_below_another_directory(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list").write_text("/pool/old/a/b 1\n/pool/old/c 2\n")
    code, _, told = await publish(
        spinor, world, capsys, tmp_path / "list", "--se", "local-se", "--below", "/astro/new/", "--strip", "/pool"
    )
    assert (code, told) == (0, [])
    assert [(row[0], row[4]) for row in await catalog(world)] == [
        ("/astro/new/old/a/b", "old/a/b"), ("/astro/new/old/c", "old/c"),
    ]  # fmt: skip


async def test_standard_input_and_running_it_again(
    world: World, spinor: Commands, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def typed(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(text.encode()))))

    typed("lfn,size\n/astro/a,1\n/astro/b,2\n")
    assert (await publish(spinor, world, capsys, "-", "--se", "local-se"))[1]["registered"] == 2
    for words, registered, already in ([], 1, 2), (["--skip-broken"], 0, 3):
        typed("lfn,size\n/astro/a,1\n/astro/b,3\n/astro/c,3\n/astro/c,4\n/astro/c,3\n")
        code, sums, told = await publish(spinor, world, capsys, "-", "--se", "local-se", *words)
        assert (code, sums["registered"], sums["already"]) == (1, registered, already)
        assert sorted((t["lfn"], t["catalog"], t["given"]) for t in told) == [
            ("/astro/b", "2", "3"), ("/astro/c", "3", "4"),
        ]  # fmt: skip
    await check_sums(world.db, files=3)


def test_a_pipe_is_read_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = use(monkeypatch, SERVER)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=["lfn,size\n/astro/a,1\n"])
    writer.start()
    assert spinor_beside("file", "register-manifest", str(tmp_path / "pipe"), "--se", "one-se") == 0
    writer.join()
    assert len(wire.rows()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


BROKEN = {
    b"/astro/x,1,2,3,4,5": ("", "has 6 columns, separated by ',', where there should be 5"),
    b"/astro/x,one,,,": ("size_bytes", "'one' is no size; write a whole number of bytes, digits only"),
    b"/astro/x,-1,,,": ("size_bytes", "'-1' is no size"),
    b"/astro/x,0x10,,,": ("size_bytes", "'0x10' is no size"),
    b"/astro/x,9223372036854775808,,,": ("size_bytes", "'9223372036854775808' is no size"),
    b"/astro/x,,,,": ("size_bytes", "is missing"),
    b"/astro/x,1,xyz,,": ("adler32", "'xyz' is no adler32; write 8 hex digits"),
    b"/astro/x,1,123456789,,": ("adler32", "'123456789' is no adler32"),
    b"/astro/x,1,,abc,": ("sha256", "'abc' is no sha256; write 64 hex digits"),
    b"/astro/x,1,,,abc": ("guid", "'abc' is no GUID"),
    b"/astro/\xff,1,,,": ("", "is not valid UTF-8"),
    b"/astro/x\0y,1,,,": ("lfn", "NUL"),
    b"/astro/../x,1,,,": ("lfn", '".." is . or ..'),
    b"/astro/x/,1,,,": ("lfn", "is empty"),
    b"/astro/" + b"n" * 256 + b",1,,,": ("lfn", "256 bytes"),
    b"/astro/" + b"n/" * 2100 + b"n,1,,,": ("lfn", "more than 4,096 bytes"),
    b"/bio/x,1,,,": ("lfn", "'/bio/x' is not below /astro"),
    b"astro/x,1,,,": ("lfn", "give the directory below which it hangs with --below"),
    b",1,,,": ("lfn", "is missing"),
    b'"/astro/x,1,,,': ("", "is not CSV: unexpected end of data"),
    b'/astro/x"y,1,,,,': ("", "has 6 columns"),
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_is_told_and_nothing_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    monkeypatch.setattr(source, "BLOCK_BYTES", 1 << 16)
    wire = use(monkeypatch, SERVER)
    good = [b"/astro/d/f%d,%d,%08x,%064x,%032x" % (n, n, n, n, n + 1) for n in range(3000)]
    content = b"lfn,size_bytes,adler32,sha256,guid\n" + b"\n".join([*good[:2500], line, *good[2500:]])
    (tmp_path / "m.csv").write_bytes(content)
    words = ["file", "register-manifest", str(tmp_path / "m.csv"), "--se", "one-se"]
    assert spinor_beside(*words) == 2
    err = capsys.readouterr().err
    column, reason = BROKEN[line]
    assert f"broken: m.csv, line 2502{f', column {column}' if column else ''}: " in err
    assert reason in err
    assert "1 of the 3,002 lines of m.csv are broken, and nothing was sent" in err
    assert wire.rows() == []
    assert spinor_beside(*words, "--skip-broken", "--json", "--report", str(tmp_path / "report")) == 1
    *told, sums = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (sums["registered"], sums["broken"]) == (3000, 1)
    assert [(t["problem"], t["line"], t["column"]) for t in told] == [("broken", 2502, column)]
    assert [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()] == told
    assert sorted(row["size_bytes"] for row in wire.rows()) == list(range(3000))


async def test_broken_lines_of_other_formats(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text, line, reason in [
        ("m.ndjson", '{"lfn": "/astro/a", "size": 1}\n{"lfn": "/astro/b", "size": 1\n', 2, "is not a JSON object"),
        ("m.ndjson", '{"lfn": "/astro/a", "size": 1}\n{"lfn": "/astro/b", "size": 1.5}\n', 2, "$.size"),
        ("m.ndjson", '{"lfn": "/astro/a", "size": 1}\n{"lfn": "/astro/b"}\n', 2, "is missing"),
        ("dump", "/astro/a 1\n/astro/b\n/astro/c 3\n", 2, "has 1 columns, separated by blanks"),
        ("dump", "/astro/a|1\n/astro/b|2\n" * 40 + "/astro/c|x\n", 81, "is no size"),
        ("dump", "local-se|/astro/a|1|1\nlocal-se|/astro/b|1|1\n" * 30 + "my-se|/astro/c|1|3\n", 61, "no storage el"),
        ("dump", "/elsewhere/a 1\n", 1, "say with --strip"),
        ("long", "-r-- 2026-11-27 06:00:00  1 astro/a\n" * 60 + "error\n", 61, "is no line of a long listing"),
    ]:
        (tmp_path / name).write_text(text)
        (code, _, told) = await publish(spinor, world, capsys, tmp_path / name, "--se", "local-se")
        if name == "dump" and "/astro/b\n" in text:
            assert code == 2  # A list without sizes is refused as a whole, since its first line decides.
            continue
        assert code == 2, text
        assert [t["line"] for t in told] == [line], text
        assert reason in told[0]["reason"]
    await check_sums(world.db, files=0)


async def test_manifests_that_cannot_be_used_at_all(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = gzip.compress(b"lfn,size\n" + b"".join(b"/astro/%d,%d\n" % (n, n * 7919) for n in range(50_000)))
    for name, content, words, code, fragment in [
        ("m.csv", b"name,size\nx,1\n", [], 2, "m.csv has no column lfn (it has name, size)"),
        ("m.csv", b"lfn\n/astro/x\n", [], 2, "cannot be registered without its size"),
        ("m.csv", b"lfn,size,lfn\n", [], 2, "comes twice"),
        ("m.csv", b"lfn,size\n", ["--columns", "lfn=path"], 2, "has no column 'path'; it has lfn, size"),
        ("m.csv", b"lfn,size\n", ["--columns", "path"], 2, "is not NAME=COLUMN"),
        ("m.csv", b"a,1\n", ["--columns", "lfn=1,size_bytes=3"], 2, "count from 1"),
        ("list", b"/astro/x\n/astro/y\n", [], 2, "ls -l -R"),
        ("m.csv.gz", whole[:-50], [], 2, "broken off or damaged"),
        ("m.parquet", b"PAR1 and no more", [], 2, "is no Parquet file"),
        ("absent", None, [], 3, "There is no file"),
        ("m.csv", b"lfn,size\n", ["--se", "nowhere"], 3, "local-se, second-se"),
        ("m.csv", b"lfn,size\n", ["--below", "/bio/x"], 4, "outside your VO"),
    ]:
        (tmp_path / name).unlink(missing_ok=True)
        if content is not None:
            (tmp_path / name).write_bytes(content)
        found = await spinor(
            world.ada, "file", "register-manifest", str(tmp_path / name), "--se", "local-se", *words
        )  # fmt: skip
        err = capsys.readouterr().err
        assert found == code, err
        assert fragment in err
    assert await spinor(world.ada, "file", "register-manifest", str(tmp_path / "m.csv")) == 2
    assert "give --se" in capsys.readouterr().err


async def test_names_with_line_ends_commas_and_quotes(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(source, "BLOCK_BYTES", 100)
    monkeypatch.setattr(batches, "BATCH_ROWS", 5)
    lines = [f'"/astro/d/a\n""{n}"",",{n}' for n in range(200)]
    (tmp_path / "m.csv").write_text("lfn,size\n" + "\n".join(lines) + '\n"/astro/d/last",x\n')
    code, sums, told = await publish(spinor, world, capsys, tmp_path / "m.csv", "--se", "local-se", "--skip-broken")
    assert (code, sums["registered"], sums["broken"]) == (1, 200, 1)
    assert told[0]["line"] == 402
    assert ('/astro/d/a\n"7",', 7) in [row[:2] for row in await catalog(world)]


async def test_all_columns_arrive(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.csv").write_text(
        "lfn,size,sha256,guid,pfn,se,created_at,metadata\n"
        f"/astro/d/a,1,{'0a' * 32},0a000000-0000-4000-8000-000000000001,x/y,local-se,2020-01-02T03:04:05Z,"
        '"{""run"": 5}"\n/astro/d/b,2,,,,second-se,,\n/astro/d/b,2,,,,local-se,,\n'
    )
    code, sums, told = await publish(spinor, world, capsys, tmp_path / "m.csv")
    assert (code, sums["files"], sums["registered"], told) == (0, 3, 3, [])
    assert await catalog(world) == [
        ("/astro/d/a", 1, None, "local-se", "x/y"),
        ("/astro/d/b", 2, None, "local-se", "astro/d/b"),
        ("/astro/d/b", 2, None, "second-se", "astro/d/b"),
    ]
    assert await spinor(world.ada, "file", "stat", "/astro/d/a", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sha256"], found["guid"]) == ("0a" * 32, "0a000000-0000-4000-8000-000000000001")
    assert found["created_at"].startswith("2020-01-02T03:04:05")
    assert await spinor(world.ada, "file", "find", "/astro", "run = 5", "-q") == 0
    assert capsys.readouterr().out == "/astro/d/a\n"
    await check_sums(world.db, files=2)
