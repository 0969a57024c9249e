"""The trial behind ADR 6 and ADR 7: what foreign keys, a table of replicas and partitions cost a bulk registration.

    python -m bench.trials.catalog_layout [FILES]

Four layouts of the same rows, filled in turns by a binary COPY of batches of 20,000, one commit each: files and
replicas in two tables with foreign keys, the same without, replicas inside the file's row (as Spinor keeps them), and
that partitioned by a hash of the directory. It runs on a PostgreSQL of its own, started as `spinor up` starts one.
"""

import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import LiteralString

import psycopg

from spinor.catalog.copying import HEADER, TRAILER, new_guids
from spinor.embedded.layout import Layout
from spinor.embedded.postgres import Cluster

Connection = psycopg.Connection[tuple[object, ...]]

BATCH, PER_DIRECTORY, ROUNDS = 20_000, 1000, 3
_FILE: LiteralString = """
    file_id bigint NOT NULL UNIQUE, directory_id bigint NOT NULL {directory},
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0), guid uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), adler32 integer, access_id integer NOT NULL {access},
    vo_id integer NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255 AND strpos(name, '/') = 0),
    {replicas} pfns text[], sha256 bytea, metadata jsonb,
    PRIMARY KEY (directory_id, name), UNIQUE (guid, vo_id)"""
_REPLICA: LiteralString = """
    file_id bigint NOT NULL {file}, se_id integer NOT NULL {se}, status smallint NOT NULL DEFAULT 0, pfn text,
    PRIMARY KEY (file_id, se_id)"""
_SE_IDS: LiteralString = "se_ids integer[] NOT NULL DEFAULT '{}',"


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    base = Path(tempfile.mkdtemp(prefix="spinor-trial-"))
    base.chmod(0o711)
    layout = Layout(base / "data")
    layout.make()
    server = Cluster(layout)
    server.start()
    try:
        with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
            _make(conn)
            rates: dict[str, list[float]] = defaultdict(list)
            for round_ in range(ROUNDS):
                for n, (name, tables) in enumerate(LAYOUTS.items()):
                    first = (round_ * len(LAYOUTS) + n) * files
                    conn.execute("CHECKPOINT")
                    rates[name].append(files / _fill(conn, tables, first, files))
                    print(f"round {round_ + 1}: {name}: {rates[name][-1]:,.0f} files/s", file=sys.stderr, flush=True)
            _tell(conn, rates)
    finally:
        server.stop()
        shutil.rmtree(base, ignore_errors=True)


LAYOUTS: dict[str, tuple[LiteralString, LiteralString | None]] = {
    "two tables with foreign keys": ("keyed_file", "keyed_replica"),
    "two tables": ("plain_file", "plain_replica"),
    "replicas in the row": ("whole_file", None),
    "replicas in the row, 8 partitions": ("parted_file", None),
}


def _make(conn: Connection) -> None:
    def table(name: LiteralString, columns: LiteralString, end: LiteralString = "") -> None:
        conn.execute(f"CREATE TABLE {name} ({columns}) {end}")

    table("directory", "directory_id bigint PRIMARY KEY")
    table("access", "access_id integer PRIMARY KEY")
    table("se", "se_id integer PRIMARY KEY")
    conn.execute("INSERT INTO access VALUES (1); INSERT INTO se VALUES (1)")
    keys: dict[str, LiteralString] = {"directory": "REFERENCES directory", "access": "REFERENCES access"}
    none: dict[str, LiteralString] = {"directory": "", "access": ""}
    table("keyed_file", _FILE.format(replicas="", **keys))
    table("keyed_replica", _REPLICA.format(file="REFERENCES keyed_file (file_id)", se="REFERENCES se"))
    table("plain_file", _FILE.format(replicas="", **none))
    table("plain_replica", _REPLICA.format(file="", se=""))
    table("whole_file", _FILE.format(replicas=_SE_IDS, **none))
    # A partitioned table can be unique only in what it is partitioned by: neither file_id nor guid are, any more.
    parted = _FILE.format(replicas=_SE_IDS, **none).replace("NOT NULL UNIQUE", "NOT NULL")
    table("parted_file", parted.replace(", UNIQUE (guid, vo_id)", ""), "PARTITION BY HASH (directory_id)")
    for n in range(8):
        conn.execute(
            f"CREATE TABLE part_{n} PARTITION OF parted_file FOR VALUES WITH (MODULUS 8, REMAINDER {n})".encode()
        )
    conn.execute("CREATE INDEX ON parted_file (file_id); CREATE INDEX ON parted_file (guid, vo_id)")


def _fill(
    conn: Connection,
    tables: tuple[LiteralString, LiteralString | None],
    first: int,
    files: int,
) -> float:
    """Seconds for COPY and commit alone."""
    file_table, replica_table = tables
    took = 0.0
    for start in range(first, first + files, BATCH):
        rows, replicas = _encoded(start, inline=replica_table is None)
        conn.execute(
            "INSERT INTO directory SELECT generate_series(%s::bigint, %s)", (start // 1000, start // 1000 + 19)
        )
        began = time.perf_counter()
        with conn.transaction(), conn.cursor() as cursor:
            more: LiteralString = ", se_ids" if replica_table is None else ""
            columns: LiteralString = "file_id, directory_id, size_bytes, guid, adler32, access_id, vo_id, name"
            with cursor.copy(f"COPY {file_table} ({columns}{more}) FROM STDIN (FORMAT binary)") as copy:
                copy.write(rows)
            if replica_table is not None:
                with cursor.copy(f"COPY {replica_table} (file_id, se_id) FROM STDIN (FORMAT binary)") as copy:
                    copy.write(replicas)
        took += time.perf_counter() - began
    return took


def _encoded(start: int, *, inline: bool) -> tuple[bytes, bytes]:
    guids = new_guids(BATCH)
    rows, replicas = bytearray(HEADER), bytearray(HEADER)
    for n in range(BATCH):
        file_id = start + n
        name = f"run{file_id // PER_DIRECTORY:07d}-evt{n % PER_DIRECTORY:05d}.raw".encode()
        rows += struct.pack(">hiqiqiqi", 9 if inline else 8, 8, file_id, 8, file_id // PER_DIRECTORY, 8, n * 1000, 16)
        rows += guids[n].tobytes() + struct.pack(">iiiiiii", 4, n, 4, 1, 4, 1, len(name))[:28] + name
        if inline:
            rows += struct.pack(">iiiiiiii", 28, 1, 0, 23, 1, 1, 4, 1)
        else:
            replicas += struct.pack(">hiqii", 2, 8, file_id, 4, 1)
    return bytes(rows + TRAILER), bytes(replicas + TRAILER)


def _tell(conn: Connection, rates: dict[str, list[float]]) -> None:
    whole = statistics.median(rates["replicas in the row"])
    for name, (file_table, replica_table) in LAYOUTS.items():
        tables = [file_table, replica_table] if replica_table else [file_table]
        if file_table == "parted_file":
            tables = [f"part_{n}" for n in range(8)]
        row = conn.execute(
            """SELECT sum(pg_total_relation_size(t::regclass)), (SELECT count(*) FROM whole_file)
                 FROM unnest(%s::text[]) AS t""",
            (tables,),
        ).fetchone()
        assert row is not None
        median = statistics.median(rates[name])
        size = int(str(row[0])) / int(str(row[1]))
        print(f"{name:<36}{median:>10,.0f} files/s  {median / whole:5.2f}  {size:5.0f} bytes/file")


if __name__ == "__main__":
    main()
