"""DIRAC's catalog with its fast managers: the ones that register in bulk, by stored procedures."""

import secrets

from bench.peers import mariadb
from bench.peers.workplace import workplace

FILES = {"trial": 2000, "small": 20_000, "full": 200_000}
ROUNDS = {"trial": 1, "small": 10, "full": 20}
STATS = {"trial": 10, "small": 300, "full": 1000}


def measured(size: str) -> dict[str, float]:
    with workplace("dirac") as work:
        server = mariadb.start(work, "FileCatalogWithFkAndPsDB.sql", secrets.token_hex(16))
        return work.measure(
            "dirac_fast", {}, port=server.port, password=server.password, files=FILES[size], rounds=ROUNDS[size],
            stats=STATS[size],
        )  # fmt: skip
