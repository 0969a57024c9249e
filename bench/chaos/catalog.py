"""Chaos over the catalog: server, database and clients are killed while trees are registered, moved and removed.

Each time, everything comes to rest after the blow, and then: every invariant of the catalog holds, every acknowledged
file is there with its size and checksum and every removed one is gone, and of a step that was not acknowledged either
all is done or nothing.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from bench.chaos import invariants
from bench.chaos.catalog_client import Journal, carry, read_journal, size_of
from bench.chaos.faults import Faults
from bench.service import SPINOR, Service, operations, running_service

NAME = "catalog"
PEOPLE = 3
BLOWS = {
    "kill server": 3,
    "kill postmaster": 3,
    "kill backend": 2,
    "kill worker": 1,
    "end session": 2,
    "kill client": 3,
}
RECOVERY_S = 90.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `python -m bench.chaos run catalog` prints."""

    chaos: str
    seed: int
    times: int
    steps: int
    blows: dict[str, int]
    files: int
    violations: list[str]


def run(seed: int, times: int) -> Outcome:
    """Strike so many times; stop at the first time after which anything is wrong."""
    with running_service(say) as service:
        service.apply(operations(service, max_pilots=0))
        trial = Trial(service, seed)
        violations: list[str] = []
        while not violations and trial.times < times:
            violations = trial.once()
        return Outcome(
            chaos=NAME, seed=seed, times=trial.times, steps=trial.steps(), blows=dict(trial.blows), files=trial.files(),
            violations=violations,
        )  # fmt: skip


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


class Trial:
    def __init__(self, service: Service, seed: int) -> None:
        self.service = service
        self.seed = seed
        self.random = random.Random(f"{seed} catalog")
        self.faults = Faults(service, seed, 0, threading.Event(), say)
        self.blows: Counter[str] = Counter()
        self.times = 0
        self.stop = service.work / "stop"
        self.journals = [service.work / f"person{n}.journal" for n in range(PEOPLE)]

    def once(self) -> list[str]:
        """People work, one or two blows fall, all comes to rest; what is wrong then."""
        self.stop.unlink(missing_ok=True)
        before = [_size(journal) for journal in self.journals]
        people = [self._start(n) for n in range(PEOPLE)]
        end = time.monotonic() + RECOVERY_S
        while time.monotonic() < end and any(
            person.poll() is None and _size(journal) == size
            for person, journal, size in zip(people, self.journals, before, strict=True)
        ):
            time.sleep(0.05)  # Nobody is struck before all are at work.
        for _ in range(self.random.choice([1, 1, 2])):
            time.sleep(self.random.uniform(0.3, 2.0))
            self._strike(people)
        time.sleep(self.random.uniform(0.2, 1.0))
        self.stop.touch()
        problems = self._rest(people)
        self.times += 1
        problems += self._verify() if not problems else []
        say(f"time {self.times}: {self.files():,} files, {'; '.join(problems) or 'all is well'}")
        return problems

    def _start(self, n: int) -> "subprocess.Popen[bytes]":
        token = self._patiently(self.service.token)
        settings = {"url": self.service.url, "ca_file": str(self.service.ca_file), "token": token}
        person = subprocess.Popen(
            [sys.executable, "-m", "bench.chaos.catalog_client", self.journals[n], str(n), str(self.seed), self.stop],
            stdin=subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert person.stdin is not None
        with person.stdin:
            person.stdin.write(json.dumps(settings).encode())
        return person

    def _patiently(self, what: Any) -> Any:
        end = time.monotonic() + RECOVERY_S
        while True:
            try:
                return what()
            except Exception as error:  # It recovers from the last blow; raised when that takes too long.
                if time.monotonic() > end:
                    raise
                say(f"not yet: {str(error).splitlines()[0][:100]}")
                time.sleep(0.5)

    def _strike(self, people: "list[subprocess.Popen[bytes]]") -> None:
        kind = self.random.choices(list(BLOWS), list(BLOWS.values()))[0]
        if kind == "kill client":
            victim = self.random.choice(people)
            struck = "" if victim.poll() is not None else f"process {victim.pid}"
            if struck:
                os.kill(victim.pid, signal.SIGKILL)
        else:
            struck = str(getattr(self.faults, f"_{kind.replace(' ', '_')}")())
        if struck:
            self.blows[kind] += 1
            say(f"{kind}: {struck}")

    def _rest(self, people: "list[subprocess.Popen[bytes]]") -> list[str]:
        problems = []
        for n, person in enumerate(people):
            try:
                code = person.wait(RECOVERY_S)
            except subprocess.TimeoutExpired:
                person.kill()
                person.wait()
                problems.append(f"person {n} still waited for an answer after {RECOVERY_S:.0f} s")
                continue
            if code not in (0, 75, -signal.SIGKILL):
                problems.append(f"person {n} ended with {code}")
        return problems

    # ------------------------------------------------------------------------------------------ what must be true

    def _verify(self) -> list[str]:
        with self._patiently(self.service.connect) as conn:
            self._await_writers(conn)
            problems = [*invariants.broken_tables(conn), *self._fsck()]
            found = _trees(conn)
            for n, journal in enumerate(self.journals):
                problems += self._compare(n, journal, found)
        return problems

    def _fsck(self) -> list[str]:
        """What the product itself says of its catalog."""
        report = self.service.work / "fsck.ndjson"
        environ = self.service.environ | {"BEARER_TOKEN": self.service.token(group="demo_admins")}
        done = subprocess.run(
            [*SPINOR, "file", "fsck", "/demo", "--report", report], env=environ, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        return [f"fsck exited {done.returncode}: {done.stderr.strip()[-500:]}"] if done.returncode else []

    def _await_writers(self, conn: "psycopg.Connection[tuple[object, ...]]") -> None:
        """A request whose client was killed may still be under way in the server."""
        while conn.execute(
            "SELECT FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'idle'"
            " AND application_name = 'spinor'"
        ).fetchall():
            time.sleep(0.1)

    def _compare(self, n: int, journal: Path, found: dict[str, tuple[int, int, int]]) -> list[str]:
        """The trees of a person are those of the journal, with the open step or without it."""
        known, step = read_journal(journal)
        mine = {tree: facts for tree, facts in found.items() if tree.startswith(f"/demo/person{n}/")}
        ways = [dict(known)]
        if step is not None:
            ways.append(dict(known))
            carry(ways[-1], step)
        for way in ways:
            if mine == {tree: _facts(files) for tree, files in way.items()}:
                if journal.exists():
                    Journal(journal).write(settled=way)
                return []
        expected = {tree: _facts(files) for tree, files in known.items()}
        wrong = sorted(tree for tree in mine.keys() | known.keys() if mine.get(tree) != expected.get(tree))
        return [
            f"person {n}: {tree} is {mine.get(tree)}, and was {expected.get(tree)} before the open step {step}"
            for tree in wrong[:5]
        ]

    def steps(self) -> int:
        return sum(j.read_text().count('"done"') for j in self.journals if j.exists())

    def files(self) -> int:
        return sum(sum(read_journal(journal)[0].values()) for journal in self.journals)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _facts(files: int) -> tuple[int, int, int]:
    """Number of files, sum of sizes, sum of checksums."""
    numbers = files * (files - 1) // 2
    return files, files * size_of(files, 0) + numbers, numbers


def _trees(conn: "psycopg.Connection[tuple[object, ...]]") -> dict[str, tuple[int, int, int]]:
    """What the catalog holds, by tree, read from the files themselves."""
    rows = conn.execute(
        """SELECT regexp_replace(d.path, '^(/demo/person[0-9]+/[^/]+)(/.*)?$', '\\1'), count(*),
                  sum(f.size_bytes)::bigint, sum(f.adler32)::bigint
             FROM catalog.file AS f JOIN catalog.directory AS d USING (directory_id)
            WHERE d.path LIKE '/demo/person%' GROUP BY 1"""
    ).fetchall()
    return {str(tree): (int(str(n)), int(str(size)), int(str(sums))) for tree, n, size, sums in rows}
