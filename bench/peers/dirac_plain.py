"""DIRAC's catalog with its default managers: the ones that can find files by metadata."""

import secrets

from bench.peers import mariadb
from bench.peers.workplace import workplace

FILES = {"trial": 6000, "small": 20_000, "full": 100_000}
ROUNDS = {"trial": 1, "small": 5, "full": 9}


def measured(size: str) -> dict[str, float]:
    with workplace("dirac") as work:
        server = mariadb.start(work, "FileCatalogDB.sql", secrets.token_hex(16))
        return work.measure(
            "dirac_metadata", {}, port=server.port, password=server.password, files=FILES[size], rounds=ROUNDS[size]
        )
