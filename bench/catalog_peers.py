"""What DIRAC's catalog and Rucio do on this machine, each with its own servers. Spinor is not measured here: its own
benchmarks ask `bench.peers` for the figures of the same operations, and tell the ratios.
"""

from bench.figures import Report
from bench.peers import MEASUREMENTS, figures, missing
from bench.service import Service

CATALOGS = ("dirac", "dirac-plain", "rucio")
# Figure of a peer -> what it is in words, and its unit.
WORDS = {
    "files": ("files registered before it is measured", "files"),
    "bytes_per_file": ("a file with one replica, in tables and indexes", "bytes"),
    "register_files_per_s": ("register 1,000 files per call", "files/s"),
    "replicas_lfns_per_s": ("replicas of 1,000 random LFNs", "LFNs/s"),
    "stat_ms": ("stat of one file", "ms"),
    "ping_ms": ("a call that does nothing", "ms"),
    "list_10000_ms": ("list of 10,000 files with details", "ms"),
    "metadata_hits": ("files that a query with three metadata keys finds", "files"),
    "metadata_ms": ("that query, all its files: it has no pages", "ms"),
    "remove_files_per_s": ("remove 1,000 files per call", "files/s"),
}


def measure(report: Report, _: Service, size: str) -> None:
    for name in CATALOGS:
        measurement = MEASUREMENTS[name]
        found = figures(name, size)
        if found is None:
            report.figure(f"{name}: not measured, since {missing(measurement.peer)}", None, "")
            continue
        report.say(f"{name} is {measurement.about}")
        for key, value in found.items():
            words, unit = WORDS[key]
            report.figure(f"{name}: {words}", value, unit)
