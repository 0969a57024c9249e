"""A MariaDB of one's own with DIRAC's schema. As durable as Spinor's PostgreSQL: each commit waits for the disk."""

from pathlib import Path

import msgspec

from bench.peers import PeerFailed, program
from bench.peers.workplace import Workplace, listens

_SETTINGS = """[mysqld]
datadir = {data}
socket = {socket}
pid-file = {data}/mariadbd.pid
bind-address = 127.0.0.1
port = {port}
skip-name-resolve
skip-log-bin
innodb_buffer_pool_size = 1G
innodb_log_file_size = 512M
innodb_flush_log_at_trx_commit = 1
innodb_flush_method = O_DIRECT
transaction-isolation = READ-COMMITTED
log_bin_trust_function_creators = 1
max_allowed_packet = 64M
"""
# Done before the first connection is taken, so that there never is an account without a password.
_ACCOUNTS = """ALTER USER root@localhost IDENTIFIED BY '{password}';
CREATE USER Dirac@'%' IDENTIFIED BY '{password}';
CREATE DATABASE FileCatalogDB;
GRANT ALL ON FileCatalogDB.* TO Dirac@'%';
GRANT SUPER ON *.* TO Dirac@'%';
"""


class MariaDB(msgspec.Struct, frozen=True):
    port: int
    password: str


def start(work: Workplace, schema: str, password: str) -> MariaDB:
    """Start it and load a schema of the DIRAC package, for example FileCatalogDB.sql."""
    data = work.directory("mariadb")
    port = work.port()
    settings, accounts, login = work.root / "my.cnf", work.root / "accounts.sql", work.root / "login.cnf"
    settings.write_text(_SETTINGS.format(data=data, socket=data / "socket", port=port))
    work.write(accounts, _ACCOUNTS.format(password=password))
    work.write(login, f"[client]\nuser = root\npassword = {password}\nsocket = {data / 'socket'}\n")
    work.run(
        [
            _found("mariadb-install-db"), f"--defaults-file={settings}", "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ], **work.switch,
    )  # fmt: skip
    work.serve(
        [_found("mariadbd"), f"--defaults-file={settings}", f"--init-file={accounts}"],
        lambda: listens(port), **work.switch,
    )  # fmt: skip
    with _schema(work, schema).open("rb") as statements:
        work.run([_found("mariadb"), f"--defaults-extra-file={login}", "FileCatalogDB"], stdin=statements)
    return MariaDB(port, password)


def _found(name: str) -> str:
    path = program(name)
    if path is None:
        raise PeerFailed(f"there is no {name}: run scripts/peers dirac")
    return path


def _schema(work: Workplace, name: str) -> Path:
    (found,) = work.python.parents[1].glob(f"lib/python3*/site-packages/DIRAC/DataManagementSystem/DB/{name}")
    return found
