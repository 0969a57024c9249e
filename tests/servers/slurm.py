"""A real Slurm cluster on this machine: a controller, nodes, accounting on MariaDB, the REST service, and a login node.

Its accounts (`ada`, who runs pilots, and `eve`, who only looks) exist in its daemons' and its login node's namespaces
alone. Nothing of the machine's own munge and Slurm is used: keys, sockets, ports and spool are the cluster's own.
"""

import contextlib
import functools
import os
import pwd
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.servers.accounts import Accounts
from tests.servers.process import ServerFailed, environ, found, free_port, listens, run, running, workplace
from tests.servers.sshd import SSHServer, SSHServers

USER, ONLOOKER = "ada", "eve"
_SETTINGS = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[ctld]}
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=socket={place}/munge/socket
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={place}/jwt.key
StateSaveLocation={place}/state
SlurmctldPidFile={place}/slurmctld.pid
SlurmctldLogFile={place}/slurmctld.out
SlurmdSpoolDir={place}/spool-%n
SlurmdPidFile={place}/slurmd-%n.pid
SlurmdLogFile={place}/slurmd-%n.out
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[dbd]}
AccountingStoragePass={place}/munge/socket
AccountingStoreFlags=job_comment,job_script
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
MinJobAge={min_job_age_s}
KillWait=5
ReturnToService=2
MpiDefault=none
NodeName=DEFAULT CPUs={cpus} RealMemory={memory_mb} Feature=fast,big
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port={node_ports}
PartitionName=short Nodes=ALL Default=YES MaxTime=60 State=UP
PartitionName=minute Nodes=ALL MaxTime=1 State=UP
PartitionName=closed Nodes=ALL MaxTime=60 State=DOWN
"""
_ACCOUNTING = """AuthType=auth/munge
AuthInfo=socket={place}/munge/socket
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={place}/jwt.key
DbdHost=localhost
DbdPort={ports[dbd]}
SlurmUser=slurm
PidFile={place}/slurmdbd.pid
LogFile={place}/slurmdbd.out
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[sql]}
StorageUser=slurm
StoragePass={password}
"""
_DATABASE = """[mysqld]
user = {owner}
datadir = {place}/sql
socket = {place}/sql.socket
pid-file = {place}/sql.pid
bind-address = 127.0.0.1
port = {ports[sql]}
skip-name-resolve
skip-log-bin
innodb_buffer_pool_size = 64M
innodb_log_file_size = 32M
innodb_lock_wait_timeout = 900
innodb_flush_log_at_trx_commit = 0
"""
_DATABASE_ACCOUNT = "CREATE USER slurm@'%' IDENTIFIED BY '{password}';\nGRANT ALL ON *.* TO slurm@'%';\n"


class Size(NamedTuple):
    """Processors and memory are what the nodes pretend to have."""

    nodes: int = 2
    cpus: int = 8
    memory_mb: int = 16_000
    min_job_age_s: int = 300  # So long an ended job is still in the controller's memory.


class SlurmCluster:
    """Changes of one test stay for the next: jobs have names of their own."""

    def __init__(self, place: Path, size: Size, root: Path | None) -> None:
        self.place = place
        self.size = size
        self.accounts = Accounts(place, USER, ONLOOKER, root=root)
        self.settings = place / "slurm.conf"
        self.ports = {name: free_port() for name in ("ctld", "dbd", "sql", "rest")}
        self.node_ports = [free_port() for _ in range(size.nodes)]
        self.ssh = SSHServers(place, self.accounts, {"SLURM_CONF": str(self.settings)})
        self.login: SSHServer  # The login node; there is none in another root.
        self._start: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {}
        self._up: dict[str, contextlib.ExitStack] = {}

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.ports['rest']}"

    @property
    def home(self) -> Path:
        """Of the account whose pilots run; the file system is the same on all nodes."""
        return self.accounts.of[USER].home

    def shared(self, name: str) -> Path:
        """A directory of that account for its jobs' outputs; it is made when it is not there."""
        place = self.home / name
        place.mkdir(mode=0o700, exist_ok=True)
        os.chown(place, self.accounts.of[USER].uid, self.accounts.of[USER].uid)
        return place

    def environ(self, **more: str) -> dict[str, str]:
        return environ(self.place, SLURM_CONF=str(self.settings), **more)

    def run(self, *words: str, run_as: str | None = USER, stdin: bytes = b"") -> str:
        """Run a command of Slurm as a user of the cluster (None: root); what it says, or ServerFailed."""
        argv = self.accounts.among([found(words[0]), *words[1:]], run_as)
        return run(argv, self.environ(), input=stdin)

    def ask(self, *words: str) -> str:
        """The same as root."""
        return self.run(*words, run_as=None)

    def start(self, name: str, daemon: Callable[[], contextlib.AbstractContextManager[object]]) -> None:
        self._start[name] = daemon
        self._up[name] = contextlib.ExitStack()
        self._up[name].enter_context(daemon())

    def stop(self) -> None:
        for name in reversed(self._up):
            self._up[name].close()
        # Jobs live on without their daemon. All that was started here knows the cluster by this variable.
        mark = f"SLURM_CONF={self.settings}".encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Until the end of the block one daemon is away: slurmctld, slurmdbd, slurmrestd, or a node (n1, n2 ...)."""
        self._up[name].close()
        try:
            yield
        finally:
            self._up[name].enter_context(self._start[name]())

    def token(self, user: str = USER, lifetime_s: int = 3600) -> str:
        """A token for the REST service."""
        said = self.ask("scontrol", "token", f"username={user}", f"lifespan={lifetime_s}")
        return said.strip().partition("=")[2]


@contextlib.contextmanager
def slurm_cluster(size: Size = Size(), root: Path | None = None) -> Iterator[SlurmCluster]:  # noqa: B008
    """A cluster until the end of the block; it takes some seconds to start. Only root can start one.

    With a root, Slurm's programs and its nodes' are those below it; munge and the database are this machine's.
    """
    with workplace("slurm") as place, contextlib.ExitStack() as stack:
        cluster = SlurmCluster(place, size, root)
        password = secrets.token_hex(16)
        _write_settings(cluster, password)
        if root is not None:  # Later releases want control groups as soon as they start, unless they are told not to.
            (place / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        stack.enter_context(_munge(place))
        stack.enter_context(_database(cluster, password))
        stack.callback(cluster.stop)
        cluster.start("slurmdbd", lambda: _daemon(cluster, "slurmdbd", lambda: listens(cluster.ports["dbd"]), "slurm"))
        cluster.ask("sacctmgr", "-i", "add", "cluster", "test")
        cluster.start("slurmctld", lambda: _daemon(cluster, "slurmctld", lambda: _answers(cluster), "slurm"))
        for number, port in enumerate(cluster.node_ports, 1):
            cluster.start(f"n{number}", functools.partial(_node, cluster, number, port))
        cluster.start("slurmrestd", lambda: _rest(cluster))
        if root is None:
            cluster.login = stack.enter_context(cluster.ssh.serving("login", users=(USER, ONLOOKER)))
        _wait_for_nodes(cluster)
        yield cluster


def _write_settings(cluster: SlurmCluster, password: str) -> None:
    place, owner = cluster.place, pwd.getpwnam("slurm")
    host = socket.gethostname().partition(".")[0]
    facts = {"place": place, "host": host, "ports": cluster.ports, "password": password, **cluster.size._asdict()}
    facts["node_ports"] = f"[{','.join(map(str, cluster.node_ports))}]"
    cluster.settings.write_text(_SETTINGS.format(**facts))
    for name, content in {
        "jwt.key": secrets.token_bytes(32),
        "slurmdbd.conf": _ACCOUNTING.format(**facts).encode(),
    }.items():
        (place / name).touch(mode=0o600)
        (place / name).write_bytes(content)
        os.chown(place / name, owner.pw_uid, owner.pw_gid)
    (place / "state").mkdir(mode=0o700)
    os.chown(place / "state", owner.pw_uid, owner.pw_gid)
    for name in ("slurmctld", "slurmdbd"):
        (place / f"{name}.out").touch()
        os.chown(place / f"{name}.out", owner.pw_uid, owner.pw_gid)
        # Daemons of this account write their process ids beside their settings.
        (place / f"{name}.pid").touch()
        os.chown(place / f"{name}.pid", owner.pw_uid, owner.pw_gid)


@contextlib.contextmanager
def _munge(place: Path) -> Iterator[None]:
    """Slurm's own authentication, with a key and a socket of this cluster."""
    home, owner = place / "munge", pwd.getpwnam("munge")
    home.mkdir(mode=0o755)
    (home / "key").touch(mode=0o600)
    (home / "key").write_bytes(secrets.token_bytes(128))
    for path in (home, home / "key"):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    argv = [
        "setpriv",
        "--reuid=munge",
        "--regid=munge",
        "--clear-groups",
        "--pdeathsig=TERM",
        found("munged"),
        "--foreground",
    ]
    argv += [f"--{option}={home / name}" for option, name in files.items()]
    with running(argv, (home / "socket").exists, place / "munged.log"):
        yield


@contextlib.contextmanager
def _database(cluster: SlurmCluster, password: str) -> Iterator[None]:
    place = cluster.place
    settings, account = place / "sql.cnf", place / "account.sql"
    settings.write_text(_DATABASE.format(place=place, ports=cluster.ports, owner="root"))
    account.touch(mode=0o600)
    account.write_text(_DATABASE_ACCOUNT.format(password=password))
    install = [found("mariadb-install-db"), f"--defaults-file={settings}", "--auth-root-authentication-method=normal"]
    run([*install, "--skip-test-db", "--skip-name-resolve"], environ(place))
    argv = [found("mariadbd"), f"--defaults-file={settings}", f"--init-file={account}"]
    with running(argv, lambda: listens(cluster.ports["sql"]), place / "mariadbd.log"):
        yield


def _daemon(
    cluster: SlurmCluster, name: str, is_ready: Callable[[], bool], run_as: str
) -> contextlib.AbstractContextManager[object]:
    argv = cluster.accounts.among([found(name), "-D"], run_as)
    return running(argv, is_ready, cluster.place / f"{name}.log", env=cluster.environ())


def _node(cluster: SlurmCluster, number: int, port: int) -> contextlib.AbstractContextManager[object]:
    (cluster.place / f"spool-n{number}").mkdir(mode=0o755, exist_ok=True)
    argv = cluster.accounts.among([found("slurmd"), "-D", "-N", f"n{number}"])
    return running(argv, lambda: listens(port), cluster.place / f"slurmd-{number}.log", env=cluster.environ())


def _rest(cluster: SlurmCluster) -> contextlib.AbstractContextManager[object]:
    port = cluster.ports["rest"]
    argv = cluster.accounts.among([found("slurmrestd"), "-a", "rest_auth/jwt", f"127.0.0.1:{port}"], "nobody")
    argv[argv.index("--regid=nobody")] = "--regid=nogroup"
    env = cluster.environ(SLURM_JWT="daemon")
    return running(argv, lambda: listens(port), cluster.place / "slurmrestd.log", env=env)


def _answers(cluster: SlurmCluster) -> bool:
    with contextlib.suppress(ServerFailed):
        return "is UP" in cluster.ask("scontrol", "ping")
    return False


def _wait_for_nodes(cluster: SlurmCluster, wait_s: float = 60) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        said = cluster.ask("sinfo", "-h", "-N", "-p", "short", "-o", "%t").split()
        if said == ["idle"] * cluster.size.nodes:
            return
        if time.monotonic() > deadline:
            raise ServerFailed(f"the nodes of Slurm are {said} after {wait_s} s")
        time.sleep(0.1)
