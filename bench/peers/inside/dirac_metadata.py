"""DIRAC's default managers: the only ones that answer metadata queries. There is no first page: the answer is whole."""

from bench.peers.inside.course import middle_s, run, say
from bench.peers.inside.dirac_catalog import ADMIN, PLAIN, analyze, batch, batches, directory, hasty, opened, value

PER_DIRECTORY = 100
PER_CALL = 1000
FIELDS = {"energy": "INT", "evttype": "VARCHAR(64)", "runnb": "INT"}
ENERGIES, TYPES = 10, 50
QUERY = {"energy": 3, "evttype": "type3", "runnb": {">": 10}}


def measure(port: int, password: str, files: int, rounds: int) -> dict[str, float]:
    catalog = opened(PLAIN, port, password)
    for name, kind in FIELDS.items():
        value(catalog.dmeta.addMetadataField(name, kind, ADMIN))
    directories = files // PER_DIRECTORY
    with hasty(catalog):
        for number, files_of_one in enumerate(batches(directories, PER_DIRECTORY)):
            value(catalog.addFile(files_of_one, ADMIN))
            values = {"energy": number % ENERGIES, "evttype": f"type{number % TYPES}", "runnb": number}
            value(catalog.setMetadata(directory(number), values, ADMIN))
    analyze(catalog)
    say(f"dirac: {files:,} files in {directories:,} directories with {len(FIELDS)} metadata fields are registered")
    hits = PER_DIRECTORY * sum(number % TYPES == 3 and number > 10 for number in range(directories))

    def asked(_: int) -> None:
        assert len(value(catalog.fmeta.findFilesByMetadata(QUERY, "/", ADMIN))) == hits

    new = [batch(directory(directories + number), PER_CALL) for number in range(rounds + 1)]
    return {
        "files": files,
        "metadata_hits": hits,
        "metadata_ms": 1000 * middle_s(rounds, asked),
        "register_files_per_s": PER_CALL / middle_s(rounds, lambda n: value(catalog.addFile(new[n], ADMIN))),
    }


if __name__ == "__main__":
    run(measure)
