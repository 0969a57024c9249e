"""What the client keeps: the server's address, its CA, and tokens, found where the WLCG discovery order says.

Access token: $BEARER_TOKEN, the file $BEARER_TOKEN_FILE, $XDG_RUNTIME_DIR/bt_u<uid>, /tmp/bt_u<uid>. The server's
address, its CA file and the refresh token are in $SPINOR_CONFIG_DIR/client.json (default ~/.config/spinor), mode 0600.
Whoever runs a machine for many users, such as a notebook hub, names the server for all in /etc/spinor/client.json.
"""

import base64
import binascii
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from spinor.errors import SpinorError

DEFAULTS_FILE = Path("/etc/spinor/client.json")


class NoServer(SpinorError):
    """No server is known; run `spinor up` to start one here, or set SPINOR_URL to the address of one."""

    status, code = 404, "no-server"


class UnsafeFile(SpinorError):
    """A file that holds a secret is not safe to use."""

    code = "unsafe-file"


class Server(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the client knows about one server."""

    ca_file: str | None = None
    refresh_token: str | None = None
    development_secret_file: str | None = None  # Readable by the person who ran `spinor up`.
    vo: str = ""  # The role to ask for in exchange for a token that a hub has lent.
    group: str = ""
    lent_by: str = ""  # The issuer of what the hub lends; needed where its tokens are no JWTs.


class Book(msgspec.Struct, kw_only=True):
    """The content of client.json: the current server's address, and all known servers by address."""

    current: str | None = None
    servers: dict[str, Server] = {}


def config_dir() -> Path:
    """Where the client keeps its files."""
    if given := os.environ.get("SPINOR_CONFIG_DIR"):
        return Path(given)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "spinor"


def read_book() -> Book:
    """client.json, or an empty book."""
    return _read_book(config_dir() / "client.json", "remove it and run `spinor login` again")


def _read_book(path: Path, remedy: str) -> Book:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Book)
    except FileNotFoundError:
        return Book()
    except msgspec.MsgspecError as error:
        raise SpinorError(f"{path} is not understood ({error}); {remedy}.") from None


@contextmanager
def changed_book() -> Iterator[Book]:
    """client.json for a change: locked against other processes, written whole when the block ends."""
    folder = config_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / "client.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        book = read_book()
        yield book
        write_secret(folder / "client.json", msgspec.json.format(msgspec.json.encode(book)))


def remember_server(
    url: str, *, ca_file: Path | None, development_secret_file: Path | None = None, current: bool = True
) -> None:
    """Keep a server's address and CA; make it the one that commands talk to."""
    with changed_book() as book:
        server = book.servers.setdefault(url, Server())
        server.ca_file = str(ca_file) if ca_file else None
        server.development_secret_file = str(development_secret_file) if development_secret_file else None
        if current:
            book.current = url


def current_server() -> tuple[str, Server]:
    """The address from $SPINOR_URL, client.json or that for all users, and what is known about it."""
    return known_server()


def known_server(url: str = "") -> tuple[str, Server]:
    """An address (the current server's if empty), and what is known about it; $SPINOR_CA_FILE names its CA."""
    book = read_book()
    defaults = _read_book(DEFAULTS_FILE, "tell whoever runs this machine")
    url = (url or os.environ.get("SPINOR_URL") or book.current or defaults.current or "").rstrip("/")
    if not url:
        raise NoServer()
    default = defaults.servers.get(url, Server())
    known = book.servers.get(url, default)
    known.ca_file, known.lent_by = known.ca_file or default.ca_file, known.lent_by or default.lent_by
    if ca_file := os.environ.get("SPINOR_CA_FILE"):
        known.ca_file = ca_file
    return url, known


def token_path() -> Path | None:
    """The file where the access token belongs; None when $BEARER_TOKEN holds the token itself."""
    if os.environ.get("BEARER_TOKEN"):
        return None
    if given := os.environ.get("BEARER_TOKEN_FILE"):
        return Path(given)
    name = f"bt_u{os.getuid()}"
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / name
    return Path("/tmp", name)  # noqa: S108  The place that the WLCG discovery order names; opened with O_NOFOLLOW.


def read_token() -> str | None:
    """The discovered access token, or None. A token file that others could have written is refused."""
    if token := os.environ.get("BEARER_TOKEN"):
        return token.strip()
    path = token_path()
    if path is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnsafeFile(f"The token file {path} cannot be read: {error.strerror}.") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o022:
            raise UnsafeFile(f"The token file {path} is not yours alone to write; remove it and run `spinor login`.")
        return file.read(65536).decode("ascii", "replace").strip() or None


def write_secret(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step, never readable by others, whatever was there before."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(data)
    temporary.replace(path)


def write_token(token: str) -> None:
    """Keep the access token where other tools of the field find it too."""
    if path := token_path():
        write_secret(path, token.encode() + b"\n")


def forget_token() -> None:
    """Remove the access token's file."""
    if path := token_path():
        with suppress(FileNotFoundError):
            path.unlink()


class Claims(msgspec.Struct):
    """The few claims that the client looks at; the server alone verifies them."""

    iss: str = ""
    exp: float = 0.0
    sid: str = ""


def peek(token: str) -> Claims:
    """The claims of a token, unverified; empty ones when it is not a JWT."""
    parts = token.split(".")
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=="), type=Claims)
    except (IndexError, binascii.Error, ValueError, msgspec.MsgspecError):
        return Claims()


def is_fresh(token: str, url: str) -> bool:
    """Whether a token is for this server and good for half a minute more; one that is no JWT is sent as it is."""
    claims = peek(token)
    return not claims.iss or (claims.iss == url and claims.exp > time.time() + 30)
