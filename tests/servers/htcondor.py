"""A real HTCondor pool of one machine: collector, negotiator, schedd and startd, which admit IDTOKENS and SciTokens.

Its programs are those of another release of Debian, so they have a root directory of their own (scripts/peers). Each
pool runs in a mount namespace: that directory becomes a mount point there, without which HTCondor starts no job, and
the machine's /tmp is in it, where the pool keeps everything.
"""

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.peers import ENVIRONMENTS
from tests.servers.authority import Authority
from tests.servers.process import ServerFailed, environ, free_port, running, workplace

ROOT = ENVIRONMENTS / "htcondor" / "root"
ACCOUNT = "pilots"  # Jobs run under it; scripts/peers makes it.
DOMAIN = "test.spinor"
_SETTINGS = """RELEASE_DIR = /usr
LOCAL_DIR = {place}
RUN = $(LOCAL_DIR)/run
LOG = $(LOCAL_DIR)/log
LOCK = $(LOCAL_DIR)/lock
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
BIN = /usr/bin
SBIN = /usr/sbin
LIB = /usr/lib/condor
LIBEXEC = /usr/libexec/condor
SHARE = /usr/share/condor
use ROLE: CentralManager
use ROLE: Submit
use ROLE: Execute
use security: recommended_v9_0
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
USE_SHARED_PORT = True
SHARED_PORT_PORT = {port}
DAEMON_SOCKET_DIR = {place}/sockets
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False
SCHEDD_NAME = {name}
UID_DOMAIN = {domain}
TRUST_DOMAIN = {domain}
FILESYSTEM_DOMAIN = {domain}
NUM_CPUS = 8
MEMORY = 16000
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = True
BASE_CGROUP =
CGROUP_MEMORY_LIMIT_POLICY = none
SEC_PASSWORD_DIRECTORY = {place}/passwords.d
SEC_TOKEN_POOL_SIGNING_KEY_FILE = {place}/passwords.d/POOL
SEC_TOKEN_SYSTEM_DIRECTORY = {place}/tokens.d
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = FS, IDTOKENS, SCITOKENS
AUTH_SSL_SERVER_CERTFILE = {certificate}
AUTH_SSL_SERVER_KEYFILE = {key}
AUTH_SSL_SERVER_CAFILE = {ca}
CERTIFICATE_MAPFILE = {place}/mapfile
CERTIFICATE_MAPFILE_ASSUME_HASH_KEYS = True
SCITOKENS_SERVER_AUDIENCE = {audience}
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = condor@*, root@*
ALLOW_NEGOTIATOR = condor@*, root@*
ALLOW_ADMINISTRATOR = condor@*, root@*
SCHEDD_INTERVAL = 2
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
UPDATE_INTERVAL = 5
RUNBENCHMARKS = 0
PERIODIC_EXPR_INTERVAL = 5
JOB_START_COUNT = 20
JOB_START_DELAY = 0
"""
# The words after the script: the root directory, the authorities' bundle, and the command.
_NAMESPACE = """
mount --rbind "$0" "$0"
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
mount --bind /tmp "$0/tmp"
mount --bind "$1" "$0/etc/ssl/certs/ca-certificates.crt"
shift
exec chroot "$0" "$@"
"""


class HTCondorServer(NamedTuple):
    collector: str  # Host and port.
    schedd: str
    tokens: Path  # A directory with an IDTOKEN of the account that jobs run under.
    ca_file: Path
    place: Path
    bundle: Path

    def command(self, *words: str) -> str:
        """Run one of HTCondor's own commands as the pool's administrator; what it says."""
        argv = _inside(self.bundle, [words[0], *words[1:]])
        done = subprocess.run(argv, env=_environ(self.place), capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise ServerFailed(f"{words[0]} exited {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout


@contextlib.contextmanager
def htcondor_server(
    authority: Authority, *, issuers: Sequence[str] = (), audience: str = "", issuer_cas: Sequence[Path] = ()
) -> Iterator[HTCondorServer]:
    """A pool until the end of the block, which only root can start. SciTokens of the issuers stand for the account."""
    with workplace("htcondor") as place:
        place.chmod(0o755)
        port = free_port()
        host = authority.host("localhost", socket.gethostname())  # A schedd tells its host by its own name.
        for name in ("run", "log", "lock", "spool", "execute", "sockets", "passwords.d", "tokens.d"):
            (place / name).mkdir(mode=0o700 if name.endswith(".d") else 0o755)
        for name in ("run", "log", "lock", "spool", "execute", "sockets"):
            os.chown(place / name, *_account("condor"))
        settings = _SETTINGS.format(
            place=place, port=port, name=f"schedd@{DOMAIN}", domain=DOMAIN, certificate=host.certificate, key=host.key,
            ca=authority.ca_file, audience=audience,
        )  # fmt: skip
        (place / "condor_config").write_text(settings)
        mapped = "".join(f"SCITOKENS /^{_escaped(issuer)},.*/ {ACCOUNT}@{DOMAIN}\n" for issuer in issuers)
        (place / "mapfile").write_text(mapped)
        bundle = place / "bundle.pem"
        bundle.write_bytes(b"".join(file.read_bytes() for file in (authority.ca_file, *issuer_cas)))
        tokens = place / "users-tokens"
        tokens.mkdir(mode=0o700)
        server = HTCondorServer(f"127.0.0.1:{port}", f"schedd@{DOMAIN}", tokens, authority.ca_file, place, bundle)
        argv = _inside(bundle, ["condor_master", "-f"])
        with running(argv, lambda: _is_ready(server), place / "master.log", env=_environ(place)):
            token = server.command("condor_token_create", "-identity", f"{ACCOUNT}@{DOMAIN}")
            with open(os.open(tokens / "pool", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(token)
            yield server


def _inside(bundle: Path, words: Sequence[str]) -> list[str]:
    return ["unshare", "--mount", "sh", "-euc", _NAMESPACE, str(ROOT), str(bundle), *words]


def _environ(place: Path) -> dict[str, str]:
    return environ(place, CONDOR_CONFIG=str(place / "condor_config")) | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def _account(name: str) -> tuple[int, int]:
    for line in (ROOT / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return int(fields[2]), int(fields[3])
    raise ServerFailed(f"there is no account {name} below {ROOT}")


def _escaped(issuer: str) -> str:
    return issuer.replace("/", r"\/").replace(".", r"\.")


def _is_ready(server: HTCondorServer) -> bool:
    """Whether the collector knows the schedd and a slot."""
    try:
        found = server.command("condor_status", "-any", "-json", "-attributes", "MyType,Name")
        return {"Scheduler", "Machine"} <= {each["MyType"] for each in json.loads(found or "[]")}
    except (ServerFailed, ValueError):
        return False
