"""The files of the service's own keys: private JWKs of mode 0600, one key each, outside of the database.

A key has its public half published from the moment that its file is there, signs (or seals) from `spinor_signs_from`
on, and after `spinor_retired_at` only verifies what it has signed, until the longest token has run out. A file without
these is a key in full use.
"""

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OctKey, RSAKey

from spinor.errors import Conflict, NotFound, SpinorError

SIGNING_ALGORITHMS = ("ES256", "RS256")
SEALING_ALGORITHM = "A256GCM"
SUCCESSOR_ALGORITHM = "HS256"  # Of the secret from which the successors of refresh tokens follow.
JWKS_LIFETIME_S = 3600  # So long may others keep our published keys.
SIGNS_AFTER_S = 2 * JWKS_LIFETIME_S
SEALS_AFTER_S = 300  # Every server has looked at its keys by then.
VERIFIES_S = 25 * 3600  # A retired key: longer than any token that it may have signed (a pilot's, a day).
_SMALLEST_RSA_BITS = 2048
_SIGNS_FROM, _RETIRED_AT = "spinor_signs_from", "spinor_retired_at"

Key = ECKey | RSAKey | OctKey


class KeyRefused(SpinorError):
    """A key file cannot be used."""

    code = "key-refused"


class UnknownKey(NotFound):
    """There is no such key; see `spinor keys list`."""

    code = "unknown-key"


class KeyNeeded(Conflict):
    """This key is still needed."""

    code = "key-needed"


class KeyFile(NamedTuple):
    """One key and what its file says of it; times in seconds since 1970."""

    path: Path
    kid: str
    algorithm: str
    key: Key
    signs_from: float = 0
    retired_at: float | None = None

    def is_active(self, now: float) -> bool:
        return self.retired_at is None and self.signs_from <= now

    def is_over(self, now: float) -> bool:
        """Whether nothing that it signed can be valid any more. What is sealed stays sealed: never for such a key."""
        over = self.retired_at is not None and now > self.retired_at + VERIFIES_S
        return over and self.algorithm in SIGNING_ALGORITHMS


def read_key_file(path: Path) -> KeyFile:
    """The key of a file. KeyRefused when others can read it, or it is not one that we can use."""
    mode = path.stat().st_mode
    if mode & 0o077:
        raise KeyRefused(f"{path} can be read by others (mode {mode & 0o777:o}); run `chmod 600 {path}`.")
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        about = [content.pop(name, None) for name in (_SIGNS_FROM, _RETIRED_AT)]
        key = JWKRegistry.import_key(content)
    except (msgspec.DecodeError, JoseError, ValueError) as error:
        # The text of a private key could be quoted in the error, so only its kind is passed on.
        raise KeyRefused(f"{path} is not a private JWK ({type(error).__name__}).") from None
    if not (isinstance(key, ECKey | RSAKey | OctKey) and key.is_private):
        raise KeyRefused(f"{path} is not a private EC, RSA or symmetric key.")
    if not all(value is None or type(value) in (int, float) for value in about):
        raise KeyRefused(f"{path}: {_SIGNS_FROM} and {_RETIRED_AT} must be seconds since 1970.")
    return KeyFile(path, key.kid or key.thumbprint(), _algorithm(path, key), key, about[0] or 0, about[1])


def _algorithm(path: Path, key: Key) -> str:
    if isinstance(key, OctKey):
        return SEALING_ALGORITHM if key.alg == SEALING_ALGORITHM else SUCCESSOR_ALGORITHM
    if isinstance(key, ECKey):
        if key.curve_name != "P-256":
            raise KeyRefused(f"{path} is on the curve {key.curve_name}; ES256 needs P-256.")
        return "ES256"
    if key.raw_value.key_size < _SMALLEST_RSA_BITS:
        raise KeyRefused(f"{path} is an RSA key of {key.raw_value.key_size} bits; {_SMALLEST_RSA_BITS} is the least.")
    return "RS256"


def read_key_files(directory: Path) -> list[KeyFile]:
    """All keys of the directory, oldest name first; KeyRefused for the first that cannot be used."""
    return [read_key_file(path) for path in sorted(directory.glob("*.jwk"))]


def generated(algorithm: str) -> Key:
    if algorithm == "ES256":
        return ECKey.generate_key("P-256", {"alg": algorithm, "use": "sig"}, auto_kid=True)
    if algorithm == "RS256":
        return RSAKey.generate_key(3072, {"alg": algorithm, "use": "sig"}, auto_kid=True)
    if algorithm == SEALING_ALGORITHM:
        return OctKey.generate_key(256, {"alg": algorithm, "use": "enc"}, auto_kid=True)
    return OctKey.generate_key(256, {"alg": algorithm}, auto_kid=True)


def make_key(directory: Path, algorithm: str, *, signs_from: float = 0) -> KeyFile:
    """A new key in a file of its own, which has its name only when it is complete and on the disk."""
    key = generated(algorithm)
    content: dict[str, Any] = dict(key.as_dict(private=True))
    if signs_from:
        content[_SIGNS_FROM] = int(signs_from)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = directory / f"{stamp}-{algorithm.lower()}-{secrets.token_hex(4)}.jwk"
    write_private(path, msgspec.json.encode(content))
    return read_key_file(path)


def add_key(directory: Path, algorithm: str, *, now: float, at_once: bool = False) -> KeyFile:
    """A new key: published now, and in use when everybody who keeps our published keys has had the time to see it."""
    wait_s = SEALS_AFTER_S if algorithm == SEALING_ALGORITHM else SIGNS_AFTER_S
    return make_key(directory, algorithm, signs_from=now if at_once else now + wait_s)


def retire_key(directory: Path, kid: str, *, now: float) -> KeyFile:
    """Let a signing key sign no more. KeyNeeded while no other one of its kind is ready to sign."""
    files = read_key_files(directory)
    found = find_key(files, kid)
    kid = found.kid
    if found.algorithm not in SIGNING_ALGORITHMS:
        raise KeyNeeded(f"The key {kid} does not sign; sealing keys go by `spinor keys reseal --remove`.")
    if found.retired_at is not None:
        raise KeyNeeded(f"The key {kid} is retired already; its file goes when what it signed has run out.")
    # Access tokens are signed with one algorithm and ID tokens with another, so that each needs a successor.
    others = [each for each in files if each.kid != kid and each.algorithm == found.algorithm]
    if not any(each.is_active(now) for each in others):
        add = f"spinor keys add --algorithm {found.algorithm}"
        raise KeyNeeded(f"No other {found.algorithm} key signs yet; run `{add}` and wait, or `{add} --now`.")
    content = {**found.key.as_dict(private=True), _SIGNS_FROM: int(found.signs_from), _RETIRED_AT: int(now)}
    write_private(found.path, msgspec.json.encode(content))
    return found._replace(retired_at=now)


def remove_key(found: KeyFile) -> None:
    found.path.unlink(missing_ok=True)


def find_key(files: list[KeyFile], kid: str) -> KeyFile:
    """The key of that name, or whose name begins so when that is one key only."""
    fitting = [each for each in files if each.kid == kid] or [each for each in files if each.kid.startswith(kid)]
    if len(fitting) != 1 or not kid:
        raise UnknownKey(f"There is {'more than one' if fitting else 'no'} key {kid!r}; see `spinor keys list`.")
    return fitting[0]


def write_private(path: Path, content: bytes) -> None:
    """A file of mode 0600 from its first moment, which has its name only when it is complete and on the disk."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        draft.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
