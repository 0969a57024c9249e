"""The door of the benchmarks: `python -m bench list`, `python -m bench run NAME [--size trial|small|full]`."""

import argparse
import importlib
import sys

from bench.figures import Report

# Name -> its module, and what it measures.
BENCHMARKS = {
    "catalog-120m": ("catalog_120m", "120 million files in one go: time, size, and whether it slows down"),
    "catalog-fsck": ("catalog_fsck", "compare the catalog with a storage's dump; peer: sort and comm by hand"),
    "catalog-register": (
        "catalog_register",
        "register files in bulk and as a tree; peer: a bare binary COPY of the same rows",
    ),
    "catalog-remove": (
        "catalog_remove",
        "remove files, 1,000 a call and whole trees, and look-ups meanwhile; peer: a bare DELETE of like rows",
    ),
    "catalog-query": ("catalog_query", "queries with three metadata keys over HTTPS: first page, count, facets"),
    "catalog-list": ("catalog_list", "a stat, pages and whole listings over HTTPS; peer: the bare SELECT"),
    "catalog-replicas": ("catalog_replicas", "replicas of 1,000 LFNs over HTTPS; peer: the bare SQL look-up"),
    "catalog-peers": ("catalog_peers", "the catalogs of DIRAC and Rucio on this machine; see scripts/peers"),
    "catalog-scan": ("catalog_scan", "read a directory tree's names, sizes and checksums; peer: os.scandir and stat"),
    "jobs-submit": (
        "jobs_submit",
        "submit jobs over HTTPS, one and 1,000 per call, and whole arrays; peer: DiracX, see scripts/peers",
    ),
    "jobs-match": ("jobs_match", "give up to 10,000,000 waiting jobs of 10,000 task queues to 1,000 pilots"),
    "jobs-churn": ("jobs_churn", "an hour of the same while jobs come and go, half of it under an old snapshot"),
    "jobs-heartbeat": ("jobs_heartbeat", "1,700 running jobs told of per second, as half a million every five minutes"),
    "jobs-search": ("jobs_search", "the newest hundred of a million jobs, and counts of them, over HTTPS"),
    "jobs-overhead": ("jobs_overhead", "an empty job from submission to done, and many; peer: the bare process"),
    "jobs-kill": ("jobs_kill", "how soon a kill reaches its payload, and a dead pilot is noticed"),
    "pilots-plan": ("pilots_plan", "how long the pilot factory thinks: 10,000 queues, 1,000 elements, 50,000 pilots"),
    "token-verify": ("token_verify", "know who calls: a token never seen before, and one seen in the last minute"),
    "token-endpoint": ("token_endpoint", "exchange and refresh tokens over HTTPS, the server pinned to one core"),
    "cli-start": ("cli_start", "`spinor --help` and real calls over HTTPS, warm; floor: an empty Python"),
    "http-baseline": ("http_baseline", "one look-up and one small write; peer: the same in a small Go service"),
}


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks: one JSON object per figure.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name the benchmarks")
    run = commands.add_parser("run", help="run one of them on servers that it starts itself")
    run.add_argument("name", choices=BENCHMARKS)
    run.add_argument(
        "--size", choices=("trial", "small", "full"), default="small", help="small ends within two minutes"
    )
    given = parser.parse_args(words)
    if given.command == "list":
        for name, (_, about) in BENCHMARKS.items():
            print(f"{name:<18}{about}")
        return 0
    # Imported here, so that a list is there at once.
    from bench.service import running_service

    module = importlib.import_module(f"bench.{BENCHMARKS[given.name][0]}")
    report = Report(given.name)
    try:
        with running_service(report.say) as service:
            module.measure(report, service, given.size)
    except KeyboardInterrupt:
        print("interrupted; what was started is stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
