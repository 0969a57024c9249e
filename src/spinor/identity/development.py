"""The development login: whoever can read one 0600 file of the service signs in as the person who started it.

For a service on one's own machine, and only when SPINOR_DEVELOPMENT_LOGIN=1. It proves nothing but access to that file.
"""

import hmac
import secrets
from pathlib import Path

import msgspec

from spinor.errors import Denied
from spinor.identity.keys import write_private


class SecretRefused(Denied):
    """The development login does not know this secret; sign in where the service runs, as the user that started it."""

    code = "secret-refused"


class DevelopmentLogin(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    secret: str


def secret_file(data_dir: Path) -> Path:
    return data_dir / "secrets" / "development-login"


def make_secret(data_dir: Path, user: str) -> Path:
    """Create the file once, for this user; an existing one stays as it is."""
    path = secret_file(data_dir)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        return path
    content = msgspec.json.encode(DevelopmentLogin(user=user, secret=secrets.token_urlsafe(32)))
    write_private(path, content)
    return path


def read_secret(path: Path) -> DevelopmentLogin:
    """The content of the file; OSError when it is not yours to read."""
    return msgspec.json.decode(path.read_bytes(), type=DevelopmentLogin)


def user_of_secret(data_dir: Path, given: str) -> str:
    """The user whom this secret signs in; SecretRefused when it is not the one of the file."""
    try:
        known = read_secret(secret_file(data_dir))
    except FileNotFoundError:
        raise SecretRefused("The development login has no secret yet; run `spinor bootstrap`.") from None
    if not hmac.compare_digest(known.secret.encode(), given.encode()):
        raise SecretRefused
    return known.user
