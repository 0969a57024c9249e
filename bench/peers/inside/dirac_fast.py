"""DIRAC's fast managers: registration, look-ups, lists and removal. They cannot answer a metadata query."""

import itertools
import random
from typing import Any

from bench.peers.inside.course import middle_s, run, say
from bench.peers.inside.dirac_catalog import (
    ADMIN,
    FAST,
    Refused,
    analyze,
    batch,
    batches,
    directory,
    opened,
    stored_bytes,
    value,
)

PER_CALL = 1000
LISTED = 10_000


def measure(port: int, password: str, files: int, rounds: int, stats: int) -> dict[str, float]:
    catalog = opened(FAST, port, password)
    directories = files // PER_CALL
    empty = stored_bytes(catalog)
    for files_of_one in batches(directories, PER_CALL):
        value(catalog.addFile(files_of_one, ADMIN))
    analyze(catalog)
    per_file = (stored_bytes(catalog) - empty) / files
    say(f"dirac: {files:,} files are registered")
    new = [batch(directory(directories + number), PER_CALL) for number in range(rounds + 1)]
    found = {
        "files": files,
        "bytes_per_file": per_file,
        "register_files_per_s": PER_CALL / middle_s(rounds, lambda n: value(catalog.addFile(new[n], ADMIN))),
    }
    found |= _looked_up(catalog, directories, rounds, stats)
    found["list_10000_ms"] = 1000 * _list_s(catalog, rounds)
    removal_s = middle_s(rounds, lambda n: value(catalog.removeFile(list(new[n]), ADMIN)))
    found["remove_files_per_s"] = PER_CALL / removal_s
    _ask_for_metadata(catalog)
    return found


def _ask_for_metadata(catalog: Any) -> None:
    """Say how a metadata query is refused, and stop being right about it as soon as it is answered."""
    value(catalog.dmeta.addMetadataField("energy", "INT", ADMIN))
    value(catalog.setMetadata(directory(0), {"energy": 3}, ADMIN))
    try:
        value(catalog.fmeta.findFilesByMetadata({"energy": 3}, "/", ADMIN))
    except Refused as refusal:
        say(f"dirac: these managers refuse a metadata query ({refusal}), so dirac-plain answers it")
    else:
        raise AssertionError("these managers answer a metadata query by now, and should be measured with one")


def _looked_up(catalog: Any, directories: int, rounds: int, stats: int) -> dict[str, float]:
    draw = random.Random(1)
    names = [lfn for files_of_one in batches(directories, PER_CALL) for lfn in files_of_one]
    asked = [draw.sample(names, PER_CALL) for _ in range(rounds + 1)]
    single = [draw.choice(names) for _ in range(stats + 1)]

    def replicas(number: int) -> None:
        answer = value(catalog.getReplicas(asked[number], False, ADMIN))
        assert len(answer["Successful"]) == PER_CALL

    return {
        "replicas_lfns_per_s": PER_CALL / middle_s(rounds, replicas),
        "stat_ms": 1000 * middle_s(stats, lambda n: value(catalog.getFileMetadata([single[n]], ADMIN))),
    }


def _list_s(catalog: Any, rounds: int) -> float:
    """A directory of 10,000 files with their details, as `ls -l` asks for them."""
    path = "/vo/listed/all"
    entries = iter(batch(path, LISTED).items())
    while some := dict(itertools.islice(entries, PER_CALL)):
        value(catalog.addFile(some, ADMIN))
    analyze(catalog)

    def listed(_: int) -> None:
        answer = value(catalog.listDirectory([path], ADMIN, verbose=True))
        assert len(answer["Successful"][path]["Files"]) == LISTED

    return middle_s(rounds, listed)


if __name__ == "__main__":
    run(measure)
