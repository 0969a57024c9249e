"""The door of chaos: `python -m bench.chaos list`, `python -m bench.chaos run NAME --seed N --minutes M`."""

import argparse
import importlib
import sys

import msgspec

# Name -> its module, and what it does.
RUNS = {
    "catalog": ("catalog", "kill server, database and clients while trees are registered, moved and removed"),
    "jobs": (
        "jobs",
        "a crowd of tiny jobs on real Slurm and local slots, while all that runs them is killed and cut off",
    ),
    "first-storey": ("first_storey", "kill every part of a service while jobs run and files are registered"),
}


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description="Chaos: one JSON object per run.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name the runs")
    run = commands.add_parser("run", help="do one on a service that it starts itself; exits 1 when an invariant broke")
    run.add_argument("name", choices=RUNS)
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--minutes", type=float, default=1.0, help="how long faults are made; quiet comes after that")
    run.add_argument(
        "--times", type=int, default=10, help="catalog: how often it strikes, each time followed by a check"
    )
    run.add_argument("--jobs", type=int, default=100_000, help="jobs: how many, however long they take")
    given = parser.parse_args(words)
    if given.command == "list":
        for name, (_, about) in RUNS.items():
            print(f"{name:<18}{about}")
        return 0
    module = importlib.import_module(f"bench.chaos.{RUNS[given.name][0]}")
    try:
        how_long = {"catalog": (given.times,), "jobs": (given.minutes, given.jobs)}
        outcome = module.run(given.seed, *how_long.get(given.name, (given.minutes,)))
    except KeyboardInterrupt:
        print("interrupted; what was started is stopped", file=sys.stderr)
        return 130
    print(msgspec.json.encode(outcome).decode(), flush=True)
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
