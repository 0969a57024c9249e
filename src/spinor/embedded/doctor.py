"""What is wrong with one machine's set-up: one sentence each, with the remedy."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from spinor.embedded import ports, processes
from spinor.embedded.certificates import RENEW_BEFORE_END, host_faults, load_certificate
from spinor.embedded.health import DatabaseHealth, ServerHealth, database_health, server_health
from spinor.embedded.installation import OLDEST_MAJOR, SHARED_PLACE
from spinor.embedded.layout import Layout, layout
from spinor.embedded.parts import SPINOR, make_plan, survivors
from spinor.embedded.postgres import OWNER_RECORD, Cluster
from spinor.embedded.state import State, read_state
from spinor.errors import SpinorError

_LEAST_FREE_BYTES = 1024**3
_LEAST_FREE_SHARE = 0.05
_CLOCK_TOLERANCE_S = 30.0
_SERVER_NAMES = ("localhost", "127.0.0.1")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    check: str
    ok: bool
    sentence: str
    remedy: str = ""  # What to do; empty when all is well.


class Examination:
    """What the checks look at, asked once: the state, the database and the server."""

    def __init__(self, place: Layout, now: datetime) -> None:
        self.place = place
        self.now = now
        self.state: State | None = read_state(place)
        self.database: DatabaseHealth | None = self._ask_database()
        self.server: ServerHealth | None = None
        if self.state and self.place.ca.exists() and self.server_is_ours:
            self.server = server_health(self.state.port, self.place.ca)

    @property
    def is_up(self) -> bool:
        return bool(self.state and self.state.is_supervised)

    @property
    def listener(self) -> int | None:
        return processes.listener(self.state.port) if self.state else None

    @property
    def server_is_ours(self) -> bool:
        part = self.state.part("server") if self.state else None
        listener = self.listener
        return bool(listener and part and part.process and processes.descends_from(listener, part.process.pid))

    def _ask_database(self) -> DatabaseHealth | None:
        external = os.environ.get("SPINOR_DATABASE_URL") or (
            self.state.database_url if self.state and not self.state.embedded_database else None
        )
        if external:
            return database_health(external)
        if self.state is None or not self.place.root.exists():
            return None
        try:
            cluster = Cluster(self.place)
            return database_health(cluster.url()) if cluster.is_running or self.is_up else None
        except SpinorError as error:
            return DatabaseHealth(healthy=False, sentence=error.message)


def examine(data_dir: str | os.PathLike[str] | None = None, now: datetime | None = None) -> list[Finding]:
    """Every check in turn. A check that fails to look reports that as its finding."""
    place = layout(data_dir)
    try:
        if not place.root.is_dir():
            remedy = "Run `spinor up`, or name it with --data."
            return [Finding(check="data", ok=False, sentence=f"There is no {place.root}.", remedy=remedy)]
        subject = Examination(place, now or datetime.now(UTC))
    except (SpinorError, OSError) as error:
        return [
            Finding(
                check="data", ok=False, sentence=f"{str(error).rstrip('.')}.", remedy="Use the account that owns it."
            )
        ]
    findings: list[Finding] = []
    for name, check in _CHECKS.items():
        try:
            findings += check(subject)
        except (SpinorError, OSError) as error:
            remedy = "Run the doctor as the account that ran `spinor up`."
            findings.append(
                Finding(check=name, ok=False, sentence=f"Cannot look: {str(error).rstrip('.')}.", remedy=remedy)
            )
    return findings


def _port(subject: Examination) -> Iterator[Finding]:
    if subject.state is None:
        yield Finding(check="port", ok=True, sentence="Spinor was never up here, so no port is in use.")
        return
    port, listener = subject.state.port, subject.listener
    if listener is None and subject.is_up:
        log = subject.place.log("server")
        remedy = f"Read {log}; the supervisor starts the server again by itself."
        yield Finding(check="port", ok=False, sentence=f"Nothing listens on port {port}.", remedy=remedy)
    elif listener is None:
        ok = ports.is_free(port)
        remedy = "" if ok else "Run `spinor up --port N` with another port."
        yield Finding(check="port", ok=ok, sentence=f"Port {port} is {'free' if ok else 'taken'}.", remedy=remedy)
    elif subject.server_is_ours:
        well = bool(subject.server and subject.server.healthy)
        sentence = f"The server on port {port} {subject.server.sentence if subject.server else 'does not answer'}."
        yield Finding(check="port", ok=well, sentence=sentence, remedy="" if well else "Read the server's log.")
    else:
        owner = " ".join(processes.arguments(listener))[:60] if listener else ""
        who = f"process {listener} ({owner})" if listener else "a process of another account"
        remedy = "Run `spinor down` and `spinor up`, which takes another port, or stop that process."
        yield Finding(check="port", ok=False, sentence=f"Port {port} is taken by {who}.", remedy=remedy)


def _certificate(subject: Examination) -> Iterator[Finding]:
    place = subject.place
    if not place.host_certificate.exists() or not place.ca.exists():
        remedy = "Run `spinor up`, which makes it."
        yield Finding(check="certificate", ok=False, sentence="There is no host certificate.", remedy=remedy)
        return
    wrong = host_faults(place, _SERVER_NAMES, subject.now)
    remedy = "Run `spinor down` and `spinor up`, which makes a new certificate."
    for fault in wrong:
        yield Finding(check="certificate", ok=False, sentence=f"{fault.sentence} ({fault.rule})", remedy=remedy)
    left = load_certificate(place.host_certificate).not_valid_after_utc - subject.now
    if not wrong:
        ok = left > RENEW_BEFORE_END
        sentence = f"The host certificate is valid for {left.days} more days."
        yield Finding(check="certificate", ok=ok, sentence=sentence, remedy="" if ok else remedy)


def _database(subject: Examination) -> Iterator[Finding]:
    database = subject.database
    if database is None:
        yield Finding(check="database", ok=True, sentence="The embedded database is not running, as Spinor is not up.")
    elif not database.healthy:
        log = subject.place.log("postgres")
        remedy = f"Read {log} and run `spinor up`; with a server of your own, check SPINOR_DATABASE_URL."
        yield Finding(check="database", ok=False, sentence=f"The database {database.sentence}.", remedy=remedy)
    else:
        ok = database.version_number >= OLDEST_MAJOR * 10000
        remedy = "" if ok else f"Move to PostgreSQL {OLDEST_MAJOR} or newer."
        yield Finding(
            check="database", ok=ok, sentence=f"The database is PostgreSQL {database.version}.", remedy=remedy
        )


def _clock(subject: Examination) -> Iterator[Finding]:
    others = {
        "database": subject.database.now if subject.database else None,
        "server": subject.server.date if subject.server else None,
    }
    for name, theirs in others.items():
        if theirs is None:
            continue
        apart_s = abs((datetime.now(UTC) - theirs).total_seconds())
        ok = apart_s <= _CLOCK_TOLERANCE_S
        sentence = f"The clock of the {name} and of this machine are {apart_s:.0f} s apart."
        remedy = "" if ok else "Set the clocks by NTP (chrony or systemd-timesyncd); tokens expire by the clock."
        yield Finding(check="clock", ok=ok, sentence=sentence, remedy=remedy)


def _disk(subject: Examination) -> Iterator[Finding]:
    cluster = Cluster(subject.place).home
    paths = {path.stat().st_dev: path for path in (cluster, subject.place.root) if path.exists()}
    for path in paths.values():
        usage = shutil.disk_usage(path)
        ok = usage.free >= max(_LEAST_FREE_BYTES, usage.total * _LEAST_FREE_SHARE)
        sentence = f"{path} has {usage.free / 1024**3:.1f} GiB free ({usage.free / usage.total:.0%})."
        remedy = "" if ok else "Free some space or move the data directory; the database stops when the disk is full."
        yield Finding(check="disk", ok=ok, sentence=sentence, remedy=remedy)


def _permissions(subject: Examination) -> Iterator[Finding]:
    place = subject.place
    keys = [*place.certificates.glob("*-key.pem"), place.database_password, place.state]
    keys += [path for path in (place.root / "keys").rglob("*") if path.is_file() and "pub" not in path.name]
    wide = [path for path in keys if path.exists() and path.stat().st_mode & 0o077]
    for path in wide:
        sentence = f"{path} can be read by other accounts (mode {path.stat().st_mode & 0o777:o})."
        yield Finding(check="permissions", ok=False, sentence=sentence, remedy=f"Run `chmod 600 {path}`.")
    if not wide:
        yield Finding(check="permissions", ok=True, sentence="Keys and passwords are readable by their owner only.")


def _leftovers(subject: Examination) -> Iterator[Finding]:
    place = subject.place
    found = []
    if not subject.is_up:
        plan = make_plan("", place, ports.PREFERRED, None, SPINOR)
        alive = [process.pid for _, process in survivors(place, list(plan.parts))]
        recorded = [part.process for part in subject.state.parts if part.process] if subject.state else []
        alive += [process.pid for process in recorded if process.is_alive]
        server = Cluster(place).postmaster()
        found = sorted({*alive, *([server.pid] if server else [])})
    if found:
        sentence = f"Processes {', '.join(map(str, found))} run without their supervisor."
        remedy = "Run `spinor up` to take them over, or `spinor down` to end them."
        yield Finding(check="leftovers", ok=False, sentence=sentence, remedy=remedy)
    lost = [cluster for cluster in _clusters_elsewhere() if not _owner(cluster).exists()]
    for cluster in lost:
        sentence = f"The database in {cluster} belongs to {_owner(cluster)}, which is gone."
        yield Finding(check="leftovers", ok=False, sentence=sentence, remedy=f"If so, run `rm -r {cluster}`.")
    if not found and not lost:
        yield Finding(check="leftovers", ok=True, sentence="No process and no database is left over.")


def _clusters_elsewhere() -> list[Path]:
    """Databases of root whose data directories lie where the database's account may not go."""
    return [record.parent for record in SHARED_PLACE.glob(f"*/{OWNER_RECORD}")] if os.geteuid() == 0 else []


def _owner(cluster: Path) -> Path:
    return Path(os.fsdecode((cluster / OWNER_RECORD).read_bytes()))


_CHECKS: dict[str, Callable[[Examination], Iterator[Finding]]] = {
    "port": _port,
    "certificate": _certificate,
    "database": _database,
    "clock": _clock,
    "disk": _disk,
    "permissions": _permissions,
    "leftovers": _leftovers,
}
