"""A person who registers, moves and removes whole trees, in a process that can be killed at any moment.

    python -m bench.chaos.catalog_client JOURNAL NUMBER SEED STOP_FILE < settings

Each step is written into the journal, and onto the disk, before it is asked for and again when it was acknowledged. So
whoever reads the journal knows what must be there, and of at most one step does not know whether it was done.
"""

import json
import os
import random
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.catalog_load import body
from spinor.client import Client, RemoteError
from spinor.credentials import Server

PER_DIRECTORY = 250
MOST_TREES = 12
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}


class Journal:
    def __init__(self, path: Path) -> None:
        self.file = path.open("a", encoding="utf-8")
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            self.file.write("\n")  # Whoever wrote the line was killed; it counts for nothing.

    def write(self, **facts: Any) -> None:
        self.file.write(json.dumps(facts) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def read_journal(path: Path) -> tuple[dict[str, int], dict[str, Any] | None]:
    """Tree -> how many files it has, and the step of which nobody knows whether it was done."""
    trees: dict[str, int] = {}
    open_step: dict[str, Any] | None = None
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        try:
            step = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "intent" in step:
            open_step = step
        elif "settled" in step:
            trees, open_step = step["settled"], None
        elif open_step is not None:
            carry(trees, open_step)
            open_step = None
    return trees, open_step


def carry(trees: dict[str, int], step: dict[str, Any]) -> None:
    """What a step makes of the trees."""
    match step["intent"]:
        case "register":
            trees[step["tree"]] = step["files"]
        case "move":
            trees[step["to"]] = trees.pop(step["tree"])
        case "remove":
            trees.pop(step["tree"])


def size_of(files: int, n: int) -> int:
    """The size of the n-th file of a tree of so many."""
    return files * 1000 + n


def batch(files: int) -> bytes:
    numbers = np.arange(files)
    paths = [f"d{n}" for n in range(-(-files // PER_DIRECTORY))]
    return body(
        pa.table(
            {
                "path": pa.DictionaryArray.from_arrays(pa.array((numbers // PER_DIRECTORY).astype(np.int32)), paths),
                "name": pa.array([f"f{n:06d}" for n in range(files)]),
                "size_bytes": pa.array(size_of(files, 0) + numbers),
                "adler32": pa.array(numbers),
            }
        )
    )


def register(client: Client, tree: str, files: int) -> None:
    query = urllib.parse.urlencode({"directory": tree, "se": "local", "prefix": tree.strip("/")})
    answer = json.loads(client.post(f"/api/files/register-batch?{query}", batch(files), None, ARROW))
    if answer["registered"] + answer["already"] != files:
        raise SystemExit(f"{tree}: {answer}")


def step(client: Client, journal: Journal, trees: dict[str, int], home: str, chance: random.Random) -> None:
    serial = f"{home}/t{chance.randrange(10**9):09d}"
    kinds = ["register"] if not trees else ["register", "register", "move", "remove", "again"]
    kind = chance.choice(kinds) if len(trees) < MOST_TREES else "remove"
    tree = chance.choice(sorted(trees)) if trees else serial
    match kind:
        case "register":
            tree, files = serial, chance.choice([1, 300, 2000, 5000])
            journal.write(intent="register", tree=tree, files=files)
            register(client, tree, files)
        case "again":  # What is there is there: nothing changes.
            journal.write(intent="register", tree=tree, files=trees[tree])
            register(client, tree, trees[tree])
        case "move":
            journal.write(intent="move", tree=tree, to=serial)
            client.post("/api/files/move", [{"source": tree, "target": serial}])
        case "remove":
            journal.write(intent="remove", tree=tree)
            body_ = {"paths": [tree], "recursive": True, "bytes": "keep"}
            refused = json.loads(client.post("/api/files/remove", body_))["refused"]
            if refused:
                raise SystemExit(f"{tree}: {refused}")
    journal.write(done=True)


def main() -> int:
    path, number, seed, stop = Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
    settings = json.load(sys.stdin)
    chance = random.Random(f"{seed} {os.getpid()}")
    home = f"/demo/person{number}"
    client = Client(settings["url"], Server(ca_file=settings["ca_file"]), settings["token"])
    client.get("/api/auth/whoami")
    client.post("/api/directories", {"paths": [home]})
    journal = Journal(path)
    while not stop.exists():
        trees, open_step = read_journal(path)
        if open_step is not None:
            raise SystemExit("the journal was not settled")
        try:
            step(client, journal, trees, home, chance)
        except RemoteError as error:
            print(f"person {number}: {error.message}", file=sys.stderr)
            if not error.retry:
                return 1
            return 75
    return 0


if __name__ == "__main__":
    sys.exit(main())
