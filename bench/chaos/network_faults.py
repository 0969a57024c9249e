"""Faults of the network and of a batch system, beside those of `faults`: pilots of the cluster are cut off from the
server, lose packets, or are ended by their batch system or its nodes."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from bench.chaos.faults import Faults
from bench.service import Service
from spinor.embedded import processes
from tests.servers.slurm import USER, SlurmCluster

CHAIN = "spinor-chaos"
CUT_S = (1.0, 20.0)
WEIGHTS = {"cut network": 3, "lose packets": 3, "refuse connections": 2, "cancel batch job": 2, "kill on node": 3}


class ClusterFaults(Faults):
    """Every packet that is touched is between processes of the cluster's account and this service's server."""

    def __init__(
        self, service: Service, cluster: SlurmCluster, seed: int, stop: threading.Event, say: Callable[[str], None]
    ) -> None:
        super().__init__(service, seed, 1, stop, say)
        self.cluster = cluster
        self.weights |= WEIGHTS
        self._uid = str(cluster.accounts.of[USER].uid)
        self._cuts: list[threading.Timer] = []
        if shutil.which("iptables") is None:
            say("there is no iptables here: the network stays whole")
            for kind in ("cut network", "lose packets", "refuse connections"):
                del self.weights[kind]

    def end(self) -> None:
        for cut in self._cuts:
            cut.join()
        super().end()

    def _cut_network(self) -> str:
        """Nothing comes through, and nobody is told: what a broken cable does."""
        return self._rule("-j", "DROP")

    def _lose_packets(self) -> str:
        return self._rule("-m", "statistic", "--mode", "random", "--probability", "0.3", "-j", "DROP")

    def _refuse_connections(self) -> str:
        return self._rule("-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")

    def _rule(self, *what: str) -> str:
        seconds = self.random.uniform(*CUT_S)
        port = str(urllib.parse.urlsplit(self.service.url).port)
        match = ["-p", "tcp", "--dport", port, "-m", "owner", "--uid-owner", self._uid]
        rule = ["OUTPUT", *match, *[word for word in what if word not in ("-p", "tcp")]]
        if subprocess.run(["iptables", "-w", "-I", *rule], capture_output=True, check=False).returncode != 0:
            return ""

        def mend() -> None:
            subprocess.run(["iptables", "-w", "-D", *rule], capture_output=True, check=False)

        timer = threading.Timer(seconds, mend)
        self._cuts.append(timer)
        timer.start()
        return f"for {seconds:.0f} s"

    def _cancel_batch_job(self) -> str:
        numbers = self.cluster.ask("squeue", "--noheader", "--format=%i", "--states=running,pending").split()
        if not numbers:
            return ""
        chosen = self.random.choice(sorted(numbers))
        self.cluster.ask("scancel", chosen)
        return f"batch job {chosen}"

    def _kill_on_node(self) -> str:
        """One process of the cluster's account: a pilot, its guardian, its start script or a payload."""
        found = [pid for pid in processes.pids() if _owner(pid) == int(self._uid)]
        if not found:
            return ""
        chosen = self.random.choice(sorted(found))
        with contextlib.suppress(ProcessLookupError):
            os.kill(chosen, signal.SIGKILL)
        return f"process {chosen}"


def _owner(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None
