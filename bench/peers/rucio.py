"""Rucio's server as its administrators run it, but for the web server: gunicorn, memcached, and the PostgreSQL that
Spinor brings, with the settings that Spinor gives it.
"""

import contextlib
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator

import msgspec
import psycopg
from psycopg import sql

from bench.peers import ROOT, PeerFailed, program
from bench.peers.workplace import Workplace, listens, workplace
from spinor.embedded.layout import Layout
from spinor.embedded.postgres import Cluster

FILES = {"trial": 2000, "small": 10_000, "full": 20_000}
ROUNDS = {"trial": 1, "small": 5, "full": 9}
STATS = {"trial": 10, "small": 300, "full": 1000}
WORKERS = 2

_SETTINGS = """[common]
logdir = {home}/log
loglevel = WARNING
mailtemplatedir = {environment}/rucio/etc/mail_templates
[client]
rucio_host = {url}
auth_host = {url}
auth_type = userpass
username = bench
password = {password}
account = root
request_retries = 3
auth_token_file_path = {home}/token
[database]
default = {database}
schema = rucio
echo = 0
pool_recycle = 3600
pool_reset_on_return = rollback
[bootstrap]
userpass_identity = bench
userpass_pwd = {password}
userpass_email = root@example.org
[alembic]
cfg = {home}/alembic.ini
[policy]
permission = generic
schema = generic
lfn2pfn_algorithm_default = hash
support = https://example.org
[monitor]
enable_metrics = False
[core]
default_mail_from = root@example.org
[cache]
url = 127.0.0.1:{cache}
"""
# Without the sections on logging the tables are made, and then their version cannot be noted down.
_ALEMBIC = """[alembic]
sqlalchemy.url = {database}
version_table_schema = rucio
script_location = {site_packages}/rucio/db/sqla/migrate_repo/
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = generic
[logger_root]
level = WARN
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
level = WARN
formatter = generic
[formatter_generic]
format = %(levelname)s %(name)s %(message)s
"""
# What one file takes in the two tables that each file has a row in.
_STORED = """SELECT (pg_total_relation_size('rucio.dids') + pg_total_relation_size('rucio.replicas'))::float
                    / (SELECT count(*) FROM rucio.replicas)"""


class Place(msgspec.Struct, frozen=True):
    """Where a server finds the others, and is found."""

    database: str
    cache: int
    port: int
    password: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def measured(size: str) -> dict[str, float]:
    with workplace("rucio") as work, _postgres(work) as cluster:
        place = Place(_database(cluster), work.port(), work.port(), secrets.token_hex(16))
        environ = _configure(work, place)
        work.run([str(work.python), "-m", "bench.peers.inside.rucio_tables"], cwd=ROOT, env=environ)
        _serve(work, place, environ)
        # Settings with a database in them make a client believe that it is the server.
        found = work.measure(
            "rucio_rest", environ | {"RUCIO_CLIENT_MODE": "1"}, database=place.database.replace("+psycopg", ""),
            files=FILES[size], rounds=ROUNDS[size], stats=STATS[size],
        )  # fmt: skip
        with psycopg.connect(cluster.url("rucio")) as conn:
            row = conn.execute(_STORED).fetchone()
        assert row is not None
        return found | {"bytes_per_file": row[0]}


@contextlib.contextmanager
def _postgres(work: Workplace) -> Iterator[Cluster]:
    cluster = Cluster(Layout(work.root / "data"))
    try:
        cluster.start()
        yield cluster
    finally:
        # The server of Rucio has sessions, which would be told that the database goes.
        work.stop()
        cluster.stop()
        cluster.erase()


def _database(cluster: Cluster) -> str:
    """Make the database; its address as SQLAlchemy takes it."""
    password = secrets.token_hex(16)
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE ROLE rucio LOGIN PASSWORD {}").format(password))
        conn.execute("CREATE DATABASE rucio OWNER rucio")
    return f"postgresql+psycopg://rucio:{password}@/rucio?host={cluster.sockets}&port=5432"


def _configure(work: Workplace, place: Place) -> dict[str, str]:
    """Write Rucio's settings; the environment in which its processes find them."""
    environment = work.python.parents[1]
    (site_packages,) = environment.glob("lib/python3*/site-packages")
    settings = work.root / "rucio.cfg"
    words = {"home": work.root, "environment": environment, "site_packages": site_packages}
    words |= {name: getattr(place, name) for name in ("database", "cache", "password", "url")}
    work.write(settings, _SETTINGS.format(**words))
    work.write(work.root / "alembic.ini", _ALEMBIC.format(**words))
    (work.root / "log").mkdir()
    return work.environ(RUCIO_CONFIG=str(settings), RUCIO_HOME=str(work.root))


def _serve(work: Workplace, place: Place, environ: dict[str, str]) -> None:
    """The cache comes first: each worker looks for it once, when it starts, and does without when it is not there."""
    memcached = program("memcached")
    if memcached is None:
        raise PeerFailed("there is no memcached: run scripts/peers rucio")
    work.serve(
        [memcached, "-l", "127.0.0.1", "-p", str(place.cache), "-m", "256"],
        lambda: listens(place.cache), **work.switch,
    )  # fmt: skip
    work.serve(
        [
            str(work.python.with_name("gunicorn")), "--no-control-socket", f"--workers={WORKERS}", "--threads=1",
            "--timeout=300", "--graceful-timeout=2", f"--bind=127.0.0.1:{place.port}",
            "rucio.web.rest.flaskapi.v1.main:application",
        ],
        lambda: _answers(f"{place.url}/ping"), env=environ,
    )  # fmt: skip


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
