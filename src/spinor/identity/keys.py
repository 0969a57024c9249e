"""The service's own keys: private JWK files of mode 0600, one key each, outside of the database.

Any number of signing keys may lie there. The newest ES256 key signs, all of them verify, and all public halves are
published, so that a key is changed by adding one, and later removing the older.
"""

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OctKey, RSAKey

from spinor.errors import SpinorError
from spinor.identity.sealing import Seal

SIGNING_ALGORITHMS = ("ES256", "RS256")
_SMALLEST_RSA_BITS = 2048
_PUBLIC_PARTS = ("kty", "crv", "x", "y", "n", "e", "kid", "alg", "use")


class NoKeys(SpinorError):
    """There are no signing keys; run `spinor bootstrap` (or `spinor up`) first."""

    code = "no-keys"


class KeyRefused(SpinorError):
    """A key file cannot be used."""

    code = "key-refused"


class SigningKey(NamedTuple):
    kid: str
    algorithm: str
    key: ECKey | RSAKey


class KeyRing:
    """The keys of one service, read once."""

    def __init__(self, signing: list[SigningKey], refresh_secret: bytes, sealing: Mapping[bytes, bytes]) -> None:
        self.by_kid: Mapping[str, SigningKey] = {key.kid: key for key in signing}
        self._refresh_secret = refresh_secret
        self.seal = Seal(sealing)
        usual = [key for key in signing if key.algorithm == SIGNING_ALGORITHMS[0]]
        self.signer = (usual or signing)[-1]

    @staticmethod
    def load(directory: Path) -> "KeyRing":
        """Read the keys, oldest name first. NoKeys when one kind is absent, KeyRefused when a file is not safe."""
        signing: list[SigningKey] = []
        refresh_secret = b""
        sealing: dict[bytes, bytes] = {}
        for path in sorted(directory.glob("*.jwk")):
            key = _read_key(path)
            if isinstance(key, OctKey) and key.alg == "A256GCM":
                sealing[hashlib.sha256((key.kid or "").encode()).digest()[:8]] = key.raw_value
            elif isinstance(key, OctKey):
                refresh_secret = key.raw_value
            else:
                signing.append(_signing_key(path, key))
        if not (signing and refresh_secret and sealing):
            raise NoKeys(f"{directory} does not hold a service's keys; run `spinor bootstrap` (or `spinor up`) first.")
        return KeyRing(signing, refresh_secret, sealing)

    @staticmethod
    def create(directory: Path) -> "KeyRing":
        """Make what is absent: an ES256 and an RS256 key, secrets for refresh tokens and for seals. Then load all."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        present = {path.name.split("-")[1] for path in directory.glob("*-*-*.jwk")}
        made: list[ECKey | RSAKey | OctKey] = []
        if "es256" not in present:
            made.append(ECKey.generate_key("P-256", {"alg": "ES256", "use": "sig"}, auto_kid=True))
        if "rs256" not in present:
            made.append(RSAKey.generate_key(3072, {"alg": "RS256", "use": "sig"}, auto_kid=True))
        if "hs256" not in present:
            made.append(OctKey.generate_key(256, {"alg": "HS256"}, auto_kid=True))
        if "a256gcm" not in present:
            made.append(OctKey.generate_key(256, {"alg": "A256GCM", "use": "enc"}, auto_kid=True))
        for key in made:
            _write_key(directory, key)
        return KeyRing.load(directory)

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The public halves (RFC 7517)."""
        return {"keys": [_public(key) for key in self.by_kid.values()]}

    def refresh_successor(self, token: str) -> bytes:
        """32 bytes that follow from a refresh token and our secret: the same ones each time, and nothing is stored."""
        return hmac.digest(self._refresh_secret, b"spinor refresh successor\0" + token.encode(), hashlib.sha256)


def _read_key(path: Path) -> ECKey | RSAKey | OctKey:
    mode = path.stat().st_mode
    if mode & 0o077:
        raise KeyRefused(f"{path} can be read by others (mode {mode & 0o777:o}); run `chmod 600 {path}`.")
    try:
        key = JWKRegistry.import_key(msgspec.json.decode(path.read_bytes(), type=dict[str, Any]))
    except (msgspec.DecodeError, JoseError, ValueError) as error:
        # The text of a private key could be quoted in the error, so only its kind is passed on.
        raise KeyRefused(f"{path} is not a private JWK ({type(error).__name__}).") from None
    if isinstance(key, ECKey | RSAKey | OctKey) and key.is_private:
        return key
    raise KeyRefused(f"{path} is not a private EC, RSA or symmetric key.")


def _signing_key(path: Path, key: ECKey | RSAKey) -> SigningKey:
    if isinstance(key, ECKey):
        if key.curve_name != "P-256":
            raise KeyRefused(f"{path} is on the curve {key.curve_name}; ES256 needs P-256.")
        return SigningKey(key.kid or key.thumbprint(), "ES256", key)
    if key.raw_value.key_size < _SMALLEST_RSA_BITS:
        raise KeyRefused(f"{path} is an RSA key of {key.raw_value.key_size} bits; {_SMALLEST_RSA_BITS} is the least.")
    return SigningKey(key.kid or key.thumbprint(), "RS256", key)


def _write_key(directory: Path, key: ECKey | RSAKey | OctKey) -> None:
    content = key.as_dict(private=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = f"{stamp}-{str(content['alg']).lower()}-{secrets.token_hex(4)}.jwk"
    write_private(directory / name, msgspec.json.encode(content))


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
        draft.unlink(missing_ok=True)
        raise


def _public(key: SigningKey) -> dict[str, Any]:
    described = {**key.key.as_dict(private=False), "kid": key.kid, "alg": key.algorithm, "use": "sig"}
    return {name: described[name] for name in _PUBLIC_PARTS if name in described}
