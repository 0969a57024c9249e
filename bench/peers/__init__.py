"""Other people's catalogs on this machine: started in a temporary directory, filled, measured, stopped and erased.

`figures` is what a benchmark calls in its own run. Nothing here is imported before it is needed, and what runs in a
peer's own environment (`bench.peers.inside`) finds nothing but the standard library and the peer.
"""

import functools
import importlib
import itertools
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "build" / "peers"
# Servers lie where an ordinary user's PATH does not look.
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))

# Munge and the database are those of the machine, also for the later Slurm.
_SLURM = (
    "slurmctld", "slurmd", "slurmdbd", "slurmrestd", "munged", "sbatch", "sshd", "mariadbd", "mariadb-install-db",
)  # fmt: skip
# Peer -> the programs of its Debian packages. A peer with a lock file has an environment of its own, too.
PEERS: Mapping[str, tuple[str, ...]] = {
    "dirac": ("mariadbd", "mariadb-install-db", "mariadb"),
    "rucio": ("memcached",),
    "diracx": ("git",),
    # What the servers of `tests.servers` are made of.
    "chromium": ("chromium", "certutil"),
    "oidc-provider": (),
    "voms": ("voms", "voms-proxy-init", "voms-proxy-info", "mariadbd", "mariadb-install-db", "mariadb"),
    "xrootd": ("xrootd", "xrdcp", "xrdfs"),
    "keycloak": ("java",),
    "jupyterhub": (),
    "sshd": ("sshd", "ssh-keygen", "ssh-agent", "ssh-add"),
    "slurm": _SLURM,
    "slurm24": (*_SLURM, "chroot"),
    "network": ("iptables", "ip"),
    "htcondor": ("unshare", "chroot"),
    "arc": ("arcsub", "arcctl"),
    "kubernetes": ("etcd", "unshare"),
    "containers": ("bwrap", "podman", "runc"),
    "ceph": ("ceph", "ceph-authtool", "ceph-mgr", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin"),
}
# Peers that scripts/peers installs only when they are named: they take long.
ON_REQUEST = frozenset({"kubernetes", "slurm24"})
# What scripts/peers leaves when it has installed a peer that has no lock file.
_INSTALLED = {"htcondor": "htcondor/installed", "slurm24": "slurm24/installed"}
# Peers that run on what scripts/peers installs as another one.
_PARTS = {"oidc-provider": ("node",), "jupyterhub": ("node",)}
# Peers that only root can start.
_ROOT_ONLY = {"voms", "xrootd", "sshd", "slurm", "slurm24", "htcondor", "arc", "kubernetes"}
# What a lock file below requirements is called -> what scripts/peers calls its copy when all of it is installed.
_LOCKS = {
    "peer-{}.txt": "installed.txt",
    "peer-{}/package-lock.json": "installed.json",
    "peer-{}.sha256": "installed.sha256",
    "peer-{}/go.sum": "installed.sum",
}


class Measurement(NamedTuple):
    """What can be asked for: of which peer, and what it is in words."""

    peer: str
    module: str
    about: str


MEASUREMENTS: Mapping[str, Measurement] = {
    "dirac": Measurement(
        "dirac", "bench.peers.dirac", "DIRAC's FileCatalogDB in process, its fast managers (DirectoryClosure, Ps)"
    ),
    "dirac-plain": Measurement(
        "dirac", "bench.peers.dirac_plain", "DIRAC's FileCatalogDB in process, its default managers"
    ),
    "rucio": Measurement("rucio", "bench.peers.rucio", "Rucio over REST, two workers, memcached"),
    "diracx": Measurement("diracx", "bench.peers.diracx", "DiracX over REST, one worker, SQLite"),
}


class PeerFailed(Exception):
    """A peer did not start, or did not do what it was asked to: then there are no figures of it."""


def program(name: str) -> str | None:
    return shutil.which(name, path=_PATH)


def missing(peer: str) -> str | None:
    """Why this peer cannot run here and what to do about it; None when it can."""
    for part, (name, copy) in itertools.product((peer, *_PARTS.get(peer, ())), _LOCKS.items()):
        lock, installed = ROOT / "requirements" / name.format(part), ENVIRONMENTS / part / copy
        if lock.exists() and not (installed.exists() and installed.read_bytes() == lock.read_bytes()):
            return f"peer {peer} is not installed: run scripts/peers {peer}"
    if peer in _INSTALLED and not (ENVIRONMENTS / _INSTALLED[peer]).exists():
        return f"peer {peer} is not installed: run scripts/peers {peer}"
    for name in PEERS[peer]:
        if program(name) is None:
            return f"peer {peer} is not installed (there is no {name}): run scripts/peers {peer}"
    if peer in _ROOT_ONLY and os.geteuid() != 0:
        return f"peer {peer} can be started by root only"
    return None


@functools.cache
def figures(name: str, size: str) -> Mapping[str, float] | None:
    """Measure a peer, one of MEASUREMENTS, at size trial, small or full. None when it is not installed.

    It is measured once in a run. Units are at the end of the names; what was not measured is not there.
    """
    wanted = MEASUREMENTS[name]
    reason = missing(wanted.peer)
    if reason:
        print(f"{reason}; without it there is no figure of {wanted.about}", file=sys.stderr, flush=True)
        return None
    found: Mapping[str, float] = importlib.import_module(wanted.module).measured(size)
    return found
