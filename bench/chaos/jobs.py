"""Chaos over jobs: a crowd of tiny ones on real Slurm and on local slots, while everything that runs them is killed.

Every job must end in exactly one final state, its output be registered exactly once, and counters and accounting agree.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import msgspec
import psycopg

from bench import peers
from bench.chaos import first_storey, invariants
from bench.chaos.crowd import CROWD, Crowd, Quota
from bench.chaos.faults import Faults
from bench.chaos.first_storey import Outcome, say
from bench.chaos.ledger import Ledger
from bench.service import Service, operations, running_service

NAME = "jobs"
HURRY_S = 4 * 3600.0


def run(seed: int, minutes: float, jobs: int) -> Outcome:
    """Faults for so many minutes, and longer if need be: until so many jobs were submitted and have ended. Ctrl-C ends
    the submissions early, and everything is looked at as ever."""
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(running_service(say))
        cluster = stack.enter_context(_cluster(service))
        ledger, quota = Ledger(), Quota(jobs)
        stack.enter_context(_interrupts(quota))
        calm, quitting = threading.Event(), threading.Event()
        faults = _faults(service, cluster, seed, calm)
        sites = ["LOCAL"] if cluster is None else ["LOCAL", "CLUSTER"]
        crowd = [Crowd(site, service, ledger, seed, quitting, quota) for site in sites]
        for thread in (*crowd, faults):
            thread.start()
        began = time.monotonic()
        try:
            while time.monotonic() - began < minutes * 60 or (quota.left and time.monotonic() - began < HURRY_S):
                time.sleep(5)
                say(f"{time.monotonic() - began:6.0f} s  {len(ledger.jobs):,} jobs were submitted, {_ended(service)}")
                if jobs and not quota.left and time.monotonic() - began >= minutes * 60:
                    break
        finally:
            calm.set()
            quitting.set()
        faults.join()
        faults.end()
        first_storey.join(crowd, ledger)
        violations = first_storey.await_quiet(service)
        with service.connect() as conn:
            files = invariants.read_files(conn)
            broken = invariants.broken_promises(conn, ledger, files)
            violations += [*broken.sentences, *invariants.broken_tables(conn), *invariants.broken_bytes(files)]
            first_storey.tell(service, conn, ledger, files, faults)
        say(f"{len(ledger.jobs):,} jobs in {time.monotonic() - began:,.0f} s")
        return Outcome(
            chaos=NAME,
            seed=seed,
            operations=len(ledger.jobs) + ledger.operations.total(),
            faults=faults.made.total(),
            lost=broken.lost,
            doubled=broken.doubled,
            violations=violations,
        )


@contextlib.contextmanager
def _interrupts(quota: Quota) -> Iterator[None]:
    # A handler must not wait for a lock that its own thread may hold.
    before = signal.signal(signal.SIGINT, lambda *_: threading.Thread(target=quota.end).start())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ended(service: Service) -> str:
    try:
        with service.connect() as conn:
            rows = conn.execute("SELECT status, sum(jobs) FROM jobs.tally_now GROUP BY 1 ORDER BY 1").fetchall()
    except psycopg.Error as error:
        return f"the database does not answer ({type(error).__name__})"
    return ", ".join(f"{count} {status}" for status, count in rows)


@contextlib.contextmanager
def _cluster(service: Service) -> "Iterator[object | None]":
    """A Slurm cluster beside the local slots, where its peer is installed; else local slots only, and that is said."""
    document = msgspec.json.decode(operations(service, max_pilots=3))
    missing = peers.missing("slurm")
    if missing:
        say(f"no Slurm here ({missing}): all jobs run in local slots")
        service.apply(msgspec.json.encode(document).decode())
        yield None
        return
    from tests.servers.slurm import USER, slurm_cluster

    with slurm_cluster() as cluster:
        cluster.ssh.files_for_clients(service.layout.root / "secrets" / "computing", cluster.login)
        element = {
            "plugin": "slurm", "cores": 2, "memory_bytes": "1GB", "wall_s": "1h", "max_pilots": 4, "vos": ["demo"],
            "options": {
                "host": f"localhost:{cluster.login.port}", "ssh": {"user": USER, "key_file": "id"},
                "partition": "short", "directory": str(cluster.home / "pilots"), "idle_s": 5,
            },
        }  # fmt: skip
        document["sites"]["CLUSTER"] = {"computing_elements": {"cluster": element}}
        # The storage lies on this machine's disk: the cluster's account may write there, as it could over a network.
        # Each array runs at one site, so that its directory belongs to one account.
        place = service.storage_root / CROWD[1:]
        place.mkdir(parents=True, exist_ok=True)
        for each in (place, *place.parents[: len(CROWD[1:].split("/"))]):
            each.chmod(0o1777)
        service.apply(msgspec.json.encode(document).decode())
        yield cluster


def _faults(service: Service, cluster: object | None, seed: int, calm: threading.Event) -> Faults:
    if cluster is None:
        return Faults(service, seed, 1, calm, say)
    from bench.chaos.network_faults import ClusterFaults
    from tests.servers.slurm import SlurmCluster

    assert isinstance(cluster, SlurmCluster)
    return ClusterFaults(service, cluster, seed, calm, say)
