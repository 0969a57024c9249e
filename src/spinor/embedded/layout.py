"""Where things lie below the data directory, and what the parts are told about it."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from spinor.errors import SpinorError

LOG_LIMIT_BYTES = 64 * 1024 * 1024
# pg_ctl puts the path into a shell command between double quotes.
_ODD_CHARACTERS = frozenset("\"'`$\\\n\r")
_PRIVATE_DIRECTORIES = ("logs", "tls", "secrets", "keys", "blobs", "storage", "computing", "x509")


class DataDirectoryUnusable(SpinorError):
    """The data directory cannot be used; name another one with --data."""

    code = "data-directory-unusable"


class Layout(msgspec.Struct, frozen=True):
    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        return self.root / "supervisor.lock"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def certificates(self) -> Path:
        return self.root / "tls"

    @property
    def ca(self) -> Path:
        return self.certificates / "ca.pem"

    @property
    def host_certificate(self) -> Path:
        return self.certificates / "host.pem"

    @property
    def host_key(self) -> Path:
        return self.certificates / "host-key.pem"

    @property
    def database_password(self) -> Path:
        return self.root / "secrets" / "postgres-password"

    @property
    def tag(self) -> str:
        """Names this data directory in places that are outside of it."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]

    def log(self, part: str) -> Path:
        return self.logs / f"{part}.log"

    def make(self) -> None:
        """Create what is missing. Private below; the directory itself lets the database's account pass through."""
        if odd := sorted(set(str(self.root)) & _ODD_CHARACTERS):
            raise DataDirectoryUnusable(
                f"The data directory {str(self.root)!r} cannot be used, since PostgreSQL's programs do not take "
                f"{' '.join(map(repr, odd))} in a path; name another one with --data."
            )
        try:
            if not self.root.exists():
                self.root.mkdir(parents=True)
                # Root's database runs under another account, which has to pass through but may not look around.
                self.root.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for name in _PRIVATE_DIRECTORIES:
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DataDirectoryUnusable(
                f"The data directory {self.root} cannot be used ({error.strerror}); name another one with --data."
            ) from error

    def erase(self) -> None:
        """Remove what `make` and the service put there, and the directory itself when nothing else is in it."""
        for name in _PRIVATE_DIRECTORIES:
            shutil.rmtree(self.root / name, ignore_errors=True)
        for file in (self.state, self.lock):
            file.unlink(missing_ok=True)
        if self.root.is_dir() and not any(self.root.iterdir()):
            self.root.rmdir()

    def environment(self, *, url: str, listen: str, database_url: str) -> dict[str, str]:
        """What the server, the worker and the bootstrap find in their environment (see `spinor.settings`)."""
        return {
            "SPINOR_DATABASE_URL": database_url,
            "SPINOR_DATA_DIR": str(self.root),
            "SPINOR_URL": url,
            "SPINOR_LISTEN": listen,
            "SPINOR_TLS_CERT": str(self.host_certificate),
            "SPINOR_TLS_KEY": str(self.host_key),
            "SPINOR_CA_FILE": str(self.ca),
            "SPINOR_KEYS_DIR": str(self.root / "keys"),
            "SPINOR_BLOB_DIR": str(self.root / "blobs"),
            "SPINOR_STORAGE_DIR": str(self.root / "storage"),
            "SPINOR_CE_DIR": str(self.root / "computing"),
            "SPINOR_DEVELOPMENT_LOGIN": "1",
        }


def layout(data_dir: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Layout:
    """The layout of a data directory: the one named, else $SPINOR_DATA_DIR, else the usual place for root or a user."""
    env = os.environ if environ is None else environ
    named = data_dir or env.get("SPINOR_DATA_DIR")
    if named:
        return Layout(Path(named).expanduser().resolve())
    if os.geteuid() == 0:
        return Layout(Path("/var/lib/spinor/default"))
    home = env.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    return Layout((Path(home) / "spinor").resolve())


def write_private(path: Path, content: bytes) -> None:
    """Put a 0600 file in place at once, so that no reader sees half of it and no other account ever sees any of it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def open_log(path: Path) -> int:
    """A descriptor that appends; the writers keep it open, so a log that has grown too long is emptied in place."""
    trim_log(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def trim_log(path: Path) -> None:
    """Keep one older piece. Lines written between copy and truncation are lost, which a log can bear."""
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        shutil.copyfile(path, path.with_suffix(".log.1"))
        path.with_suffix(".log.1").chmod(0o600)
        os.truncate(path, 0)


def last_lines(path: Path, count: int = 15) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []
