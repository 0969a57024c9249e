"""The embedded database: a real PostgreSQL cluster, made and run for one data directory."""

import os
import re
import secrets
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from spinor.embedded import processes
from spinor.embedded.accounts import Account, database_account
from spinor.embedded.installation import (
    SHARED_PLACE,
    Installation,
    PostgreSQLUnreachable,
    find_installation,
    make_passable,
)
from spinor.embedded.layout import Layout, last_lines, open_log, write_private
from spinor.errors import SpinorError

DATABASE = ROLE = "spinor"
# A socket's address holds 108 bytes with its final zero (unix(7), sun_path).
_LONGEST_SOCKET_BYTES = 107
_SOCKET = ".s.PGSQL.5432"
# A cluster outside of its data directory and that directory name each other in these files.
OWNER_RECORD = "data-directory"
_PLACE_RECORD = "postgres.place"


class DatabaseNotStarted(SpinorError):
    """PostgreSQL did not start."""

    code = "database-not-started"


class DatabasePasswordMissing(SpinorError):
    """The database exists, but the file with its password is gone."""

    code = "database-password-missing"


class Cluster:
    """One PostgreSQL cluster. Any process may open it; the running server is recognised, never assumed."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.home = _home(layout)
        self.data = self.home / "data"
        self.account: Account = database_account(self.data)
        self.log = layout.log("postgres")

    @property
    def exists(self) -> bool:
        return self.data.exists()

    @property
    def sockets(self) -> Path:
        """Where the server's socket is: beside the data, or in /tmp when that path is too long for a socket."""
        beside = self.home / "run"
        if len(os.fsencode(beside / _SOCKET)) <= _LONGEST_SOCKET_BYTES:
            return beside
        # Every process must come to the same place, whatever its TMPDIR; _own_directory refuses a stranger's.
        return Path(f"/tmp/spinor-{self.account.uid}-{self.layout.tag}")  # noqa: S108

    def url(self, database: str = DATABASE) -> str:
        try:
            password = self.layout.database_password.read_text().strip()
        except FileNotFoundError as error:
            raise DatabasePasswordMissing(
                f"The database's password file {self.layout.database_password} is missing; restore it from a backup."
            ) from error
        return f"postgresql://{ROLE}:{quote(password)}@/{database}?" + urlencode(
            {"host": str(self.sockets), "port": "5432"}, quote_via=quote, safe="/"
        )

    def installation(self) -> Installation:
        version_file = self.data / "PG_VERSION"
        return find_installation(self.account, int(version_file.read_text()) if version_file.exists() else None)

    def postmaster(self) -> processes.Process | None:
        """The server that runs on this cluster, whoever started it."""
        try:
            pid = int(self._pid_file()[0])
        except (OSError, ValueError, IndexError):
            return None
        found = processes.process(pid)
        # The pid file survives kill -9 and the pid may be somebody else's by now; the command line tells.
        return found if found and str(self.data) in processes.arguments(pid) else None

    @property
    def is_running(self) -> bool:
        return self.postmaster() is not None

    @property
    def is_ready(self) -> bool:
        """Whether the server takes connections; false during recovery (its pid file says so on the eighth line)."""
        try:
            lines = self._pid_file()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready" and self.is_running

    def start(self, timeout_s: float = 60.0) -> None:
        """Make the cluster if there is none, start the server or adopt the running one, and wait until it is ready."""
        self.layout.make()
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if self._bring_up(deadline):
                    return self._ensure_database()
            except psycopg.OperationalError as error:
                # A server that was just killed still looks alive for a moment, so a lost connection begins anew.
                if self.is_running and time.monotonic() > deadline:
                    raise DatabaseNotStarted(f"PostgreSQL runs, but refuses: {str(error).splitlines()[0]}.") from error
            time.sleep(0.05)

    def _bring_up(self, deadline: float) -> bool:
        """Whether a server is ready; false when one that was there already has ended."""
        if not self.exists:
            self._create()
        adopted = self.is_running
        if not adopted:
            self._clear_remains()
            _own_directory(self.sockets, self.account)
            self._write_configuration()
            self._launch(max(1.0, deadline - time.monotonic()))
        while not self.is_ready:
            if not self.is_running:
                if adopted:
                    return False
                raise self._not_started("PostgreSQL ended while it started")
            if time.monotonic() > deadline:
                raise self._not_started("PostgreSQL took too long to be ready")
            time.sleep(0.02)
        return True

    def stop(self, grace_s: float = 30.0) -> None:
        """Fast shutdown: sessions are ended and a checkpoint is written. Then immediate, which recovery repairs."""
        server = self.postmaster()
        if server:
            processes.stop(server, grace_s, signal.SIGINT, signal.SIGQUIT)
        self._clear_remains()

    def _pid_file(self) -> list[str]:
        return (self.data / "postmaster.pid").read_text().splitlines()

    def _create(self) -> None:
        """initdb into a draft that is renamed when complete, so that a half-made cluster is never taken for a whole."""
        installation = self.installation()
        _claim_home(self.layout, self.home, self.account)
        draft = self.home / "data.new"
        if draft.exists():
            shutil.rmtree(draft)
        if not self.layout.database_password.exists():
            write_private(self.layout.database_password, secrets.token_urlsafe(32).encode())
        password_file = self.home / f".password-{secrets.token_hex(4)}"
        _own_directory(draft, self.account)
        words = [f"--pgdata={draft}", f"--username={ROLE}", f"--pwfile={password_file}", "--no-instructions"]
        # The built-in locale sorts by code point and does not change when the C library is upgraded under an index.
        if installation.major >= 17:
            words += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        else:
            words += ["--locale=C.UTF-8"]
        words += ["--encoding=UTF8", "--auth=scram-sha-256", "--data-checksums"]
        try:
            write_private(password_file, self.layout.database_password.read_bytes())
            os.chown(password_file, self.account.uid, self.account.gid)
            answer = self.account.run([installation.program("initdb"), *words])
        finally:
            password_file.unlink(missing_ok=True)
        if answer.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise DatabaseNotStarted(f"The database could not be made in {self.home}: {_reason(answer.stdout)}.")
        draft.rename(self.data)

    def _launch(self, timeout_s: float) -> None:
        words = [f"--pgdata={self.data}", "--wait", f"--timeout={round(timeout_s)}", "--silent"]
        words += [f"--options=--config-file='{self.configuration}'"]
        program = self.installation().program("pg_ctl")
        log = open_log(self.log)
        try:
            answer = self.account.run([program, "start", *words], stdout=log)
        finally:
            os.close(log)
        if answer.returncode != 0 and not self.is_running:
            raise self._not_started("PostgreSQL did not start")

    @property
    def configuration(self) -> Path:
        return self.home / "postgresql.conf"

    def _write_configuration(self) -> None:
        """The file is ours and lies outside of the cluster, where the server's account cannot replace it by a link."""
        lines = ["# Written at each start; tune with ALTER SYSTEM, which overrules this file."]
        for name, value in _settings(self.sockets, f"spinor-{self.layout.tag}").items():
            lines.append(f"{name} = '{str(value).replace(chr(39), chr(39) * 2)}'")
        write_private(self.configuration, ("\n".join(lines) + "\n").encode())
        os.chown(self.configuration, -1, self.account.gid)
        self.configuration.chmod(0o640)

    def _clear_remains(self) -> None:
        """After kill -9 of the server: end the sessions that it left, and take away its files.

        Nothing may be attached to the cluster when its pid file goes, since that file is PostgreSQL's own guard.
        """
        if self.is_running or not self.exists:
            return
        title = f"postgres: spinor-{self.layout.tag}: "
        for pid in processes.pids():
            if "".join(processes.arguments(pid)[:1]).startswith(title):
                orphan = processes.process(pid)
                if orphan:
                    processes.stop(orphan, 5.0, signal.SIGQUIT)
        for remains in (self.data / "postmaster.pid", self.sockets / _SOCKET, self.sockets / f"{_SOCKET}.lock"):
            remains.unlink(missing_ok=True)
        if self.sockets.parent != self.home and self.sockets.exists():
            self.sockets.rmdir()

    def erase(self) -> None:
        """Remove the stopped cluster with all its data, wherever it is."""
        if self.exists and _owned_by(self.home) not in (None, self.layout.root):
            raise DatabaseNotStarted(f"The database in {self.home} belongs to another data directory; it stays.")
        shutil.rmtree(self.home, ignore_errors=True)
        (self.layout.root / _PLACE_RECORD).unlink(missing_ok=True)

    def _ensure_database(self) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=10) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if not known:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _not_started(self, sentence: str) -> DatabaseNotStarted:
        lines = last_lines(self.log, 5)
        return DatabaseNotStarted(f"{sentence}; the end of {self.log}:\n" + "\n".join(lines))


def _reason(output: str) -> str:
    """The line of a PostgreSQL program that says why; what follows it only says what it cleaned up."""
    lines = output.strip().splitlines() or ["initdb failed without a word"]
    return next((line for line in lines if re.search(r"\b(error|FATAL|PANIC)\b", line)), lines[-1])


def _settings(sockets: Path, name: str) -> dict[str, Any]:
    return {
        "cluster_name": name,
        "listen_addresses": "",
        "unix_socket_directories": f'"{sockets}"',
        "port": 5432,
        "max_connections": 100,
        "shared_buffers": f"{_shared_buffers_bytes() // 1024}kB",
        "effective_cache_size": f"{_memory_bytes() // 2048}kB",
        "random_page_cost": "1.1",  # Disks without heads.
        "wal_buffers": "64MB",
        "max_wal_size": "4GB",
        "min_wal_size": "1GB",  # What a burst has made stays for the next one.
        "wal_init_zero": "off",  # While a segment is filled with zeros, 50 ms here, nobody can commit.
        "checkpoint_timeout": "15min",
        "jit": "off",  # Our statements are short; compiling them costs more than it saves.
        "fsync": "on",
        "synchronous_commit": "on",
        "idle_in_transaction_session_timeout": "60s",
        "log_line_prefix": "%m [%p] ",
        "log_timezone": "UTC",
        "timezone": "UTC",
        "logging_collector": "off",
        "password_encryption": "scram-sha-256",
    }


def _shared_buffers_bytes() -> int:
    """A quarter of the memory, at most 4 GB; what is never used of it is never taken."""
    return max(16 * 1024 * 1024, min(_memory_bytes() // 4, 4 << 30))


def _memory_bytes() -> int:
    """Of the machine, or of the container when that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # There may be no control group, or one that sets no limit ("max").
    with suppress(OSError, ValueError):
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory


def _home(layout: Layout) -> Path:
    """The directory of the cluster: the recorded one, since permissions may change and data must not be lost sight of;
    else below the data directory; else, when root's database account cannot pass through to there, a place of ours."""
    inside = layout.root / "postgres"
    record = layout.root / _PLACE_RECORD
    if record.exists():
        return Path(record.read_text().strip())
    if (inside / "data").exists() or os.geteuid() != 0 or not layout.root.exists():
        return inside
    return inside if database_account(inside / "data").may_enter(layout.root) else SHARED_PLACE / layout.tag


def _claim_home(layout: Layout, home: Path, account: Account) -> None:
    if home.parent == layout.root:
        home.mkdir(exist_ok=True)
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)
        return
    make_passable(SHARED_PLACE)
    make_passable(home)
    if not account.may_enter(home):
        raise PostgreSQLUnreachable(
            f"The account {account.name} may enter neither {layout.root} nor {home}; "
            f"name a data directory it may pass through, for example below /srv (mode 711)."
        )
    write_private(home / OWNER_RECORD, os.fsencode(layout.root))
    write_private(layout.root / _PLACE_RECORD, os.fsencode(home))


def _owned_by(home: Path) -> Path | None:
    """Whose data directory this cluster is for; None when it lies in that directory itself."""
    record = home / OWNER_RECORD
    return Path(os.fsdecode(record.read_bytes())) if record.exists() else None


def _own_directory(path: Path, account: Account) -> None:
    """Create a directory only this account may look into; refuse one that somebody else put there before us."""
    try:
        path.mkdir(mode=0o700)
        if not account.is_me:
            os.chown(path, account.uid, account.gid)
    except FileExistsError:
        found = path.lstat()
        if found.st_uid != account.uid or not path.is_dir() or path.is_symlink() or found.st_mode & 0o077:
            raise DatabaseNotStarted(
                f"{path} is not a private directory of the account {account.name}; remove it and start again."
            ) from None
