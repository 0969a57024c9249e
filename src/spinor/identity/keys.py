"""The service's own keys in use: which one signs, which verify, which are published, and which seal.

The files are those of `key_files`. A running server looks at the directory again and again, so that keys are added and
retired without a restart, and a file that cannot be used is reported and passed over.
"""

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from joserfc.jwk import ECKey, OctKey, RSAKey

from spinor.errors import SpinorError
from spinor.identity.key_files import (
    SEALING_ALGORITHM,
    SIGNING_ALGORITHMS,
    SUCCESSOR_ALGORITHM,
    KeyFile,
    KeyRefused,
    make_key,
    read_key_file,
    read_key_files,
    write_private,
)
from spinor.identity.sealing import Seal

__all__ = ["SIGNING_ALGORITHMS", "KeyRefused", "KeyRing", "NoKeys", "SigningKey", "write_private"]

LOOK_S = 20  # So often is the directory looked at, when keys are used.
PAYLOAD_ALGORITHM = "HS256"
_LOOK_AT_ONCE_S = 1  # So often at most because of a key that nobody here knows.
_PUBLIC_PARTS = ("kty", "crv", "x", "y", "n", "e", "kid", "alg", "use")
_log = logging.getLogger("spinor.keys")


class NoKeys(SpinorError):
    """There are no signing keys; run `spinor bootstrap` (or `spinor up`) first."""

    code = "no-keys"


class SigningKey(NamedTuple):
    kid: str
    algorithm: str
    key: ECKey | RSAKey | OctKey


class _View(NamedTuple):
    """The keys as they are to be used at one moment."""

    by_kid: Mapping[str, SigningKey]
    signer: SigningKey
    signers: Mapping[str, SigningKey]
    payload_keys: Mapping[str, SigningKey]
    payload_signer: SigningKey
    refresh_secret: bytes
    seal: Seal

    def find(self, kid: str) -> SigningKey | None:
        return self.by_kid.get(kid) or self.payload_keys.get(kid)


class KeyRing:
    """The keys of one service, as its directory has them now."""

    def __init__(self, directory: Path, files: list[KeyFile], clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._files = {each.path: each for each in files}
        self._stamps = _stamps(directory)
        self._looked_at = clock()
        self._view = self._viewed(self._files)

    @staticmethod
    def load(directory: Path, *, clock: Callable[[], float] = time.time) -> "KeyRing":
        """Read the keys. NoKeys when one kind is absent, KeyRefused when a file is not safe."""
        return KeyRing(directory, read_key_files(directory), clock)

    @staticmethod
    def create(directory: Path) -> "KeyRing":
        """Make what is absent: an ES256 and an RS256 key, secrets for refresh tokens and for seals. Then load all."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        present = {path.name.split("-")[1] for path in directory.glob("*-*-*.jwk")}
        for algorithm in (*SIGNING_ALGORITHMS, SUCCESSOR_ALGORITHM, SEALING_ALGORITHM):
            if algorithm.lower() not in present:
                make_key(directory, algorithm)
        return KeyRing.load(directory)

    @property
    def by_kid(self) -> Mapping[str, SigningKey]:
        """The keys that verify: all but those whose last token has run out."""
        return self._fresh().by_kid

    @property
    def signer(self) -> SigningKey:
        """The key that signs: the ES256 key that came last into use."""
        return self._fresh().signer

    def signer_with(self, algorithm: str) -> SigningKey:
        """The key that signs with this algorithm; the usual one when there is none for it."""
        view = self._fresh()
        return view.signers.get(algorithm, view.signer)

    @property
    def payload_signer(self) -> SigningKey:
        """The key for tokens of payloads, which only this service reads: a secret one, and so a tenth as dear."""
        return self._fresh().payload_signer

    @property
    def seal(self) -> Seal:
        return self._fresh().seal

    def find(self, kid: str) -> SigningKey | None:
        """The key of that name. One that nobody here knows may be so new that the directory must be looked at."""
        found = self._fresh().find(kid)
        if found is None and self._clock() >= self._looked_at + _LOOK_AT_ONCE_S:
            self._look()
            found = self._view.find(kid)
        return found

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The public halves (RFC 7517)."""
        return {"keys": [_public(key) for key in self._fresh().by_kid.values()]}

    def refresh_successor(self, token: str) -> bytes:
        """32 bytes that follow from a refresh token and our secret: the same ones each time, and nothing is stored."""
        secret = self._fresh().refresh_secret
        return hmac.digest(secret, b"spinor refresh successor\0" + token.encode(), hashlib.sha256)

    def _fresh(self) -> _View:
        if self._clock() >= self._looked_at + LOOK_S:
            self._look()
        return self._view

    def _look(self) -> None:
        """Take up what changed. Whatever is wrong with the directory, the keys that were good stay in use."""
        self._looked_at = self._clock()
        try:
            stamps = _stamps(self._directory)
            files = self._files if stamps == self._stamps else self._read_again(stamps)
            self._view = self._viewed(files)
            self._files, self._stamps = files, stamps
        except (OSError, SpinorError) as error:
            _log.error("the keys stay as they are", extra={"directory": str(self._directory), "reason": str(error)})

    def _read_again(self, stamps: Mapping[Path, tuple[int, ...]]) -> dict[Path, KeyFile]:
        files: dict[Path, KeyFile] = {}
        for path, stamp in stamps.items():
            if path in self._files and stamp == self._stamps.get(path):
                files[path] = self._files[path]
                continue
            try:
                files[path] = read_key_file(path)
            except (OSError, SpinorError) as error:
                _log.error("key file passed over", extra={"file": str(path), "reason": str(error)})
                if path in self._files:
                    files[path] = self._files[path]
        return files

    def _viewed(self, by_path: Mapping[Path, KeyFile]) -> _View:
        files, now = list(by_path.values()), self._clock()
        signer, sealer, successor = (newest(files, kind, now) for kind in ("signs", "seals", "succeeds"))
        if signer is None or sealer is None or successor is None:
            raise NoKeys(
                f"{self._directory} does not hold a service's keys; run `spinor bootstrap` (or `spinor up`) first."
            )
        signing = {
            each.kid: SigningKey(each.kid, each.algorithm, each.key)
            for each in files
            if not isinstance(each.key, OctKey) and not each.is_over(now)
        }
        shared = {each.kid: each.key for each in files if isinstance(each.key, OctKey)}
        payload_keys = [_payload_key(shared[each.kid]) for each in files if each.algorithm == SUCCESSOR_ALGORITHM]
        seals = [each.kid for each in files if each.algorithm == SEALING_ALGORITHM and each.kid != sealer.kid]
        return _View(
            by_kid=signing,
            signer=signing[signer.kid],
            signers={
                algorithm: signing[found.kid]
                for algorithm in SIGNING_ALGORITHMS
                if (found := _newest_of(files, algorithm, now)) is not None
            },
            payload_keys={each.kid: each for each in payload_keys},
            payload_signer=_payload_key(shared[successor.kid]),
            refresh_secret=shared[successor.kid].raw_value,
            seal=Seal({seal_name(shared[kid]): shared[kid].raw_value for kid in [*seals, sealer.kid]}),
        )


_KINDS = {
    "signs": SIGNING_ALGORITHMS,  # The first that there is a key for.
    "signs ID tokens": SIGNING_ALGORITHMS[::-1],
    "seals": (SEALING_ALGORITHM,),
    "succeeds": (SUCCESSOR_ALGORITHM,),
}


def newest(files: list[KeyFile], kind: str, now: float) -> KeyFile | None:
    """The key that signs (or seals …): the one that came last into use; if none is in use, one that could be."""
    for algorithm in _KINDS[kind]:
        found = _newest_of([each for each in files if each.is_active(now)], algorithm, now)
        if found is not None:
            return found
    return next(filter(None, (_newest_of(files, algorithm, now) for algorithm in _KINDS[kind])), None)


def _newest_of(files: list[KeyFile], algorithm: str, now: float) -> KeyFile | None:
    fitting = [each for each in files if each.algorithm == algorithm and not each.is_over(now)]
    return max(fitting, key=lambda each: (each.is_active(now), each.signs_from, each.path.name), default=None)


def seal_name(key: OctKey) -> bytes:
    """How a sealed value names its key."""
    return hashlib.sha256((key.kid or "").encode()).digest()[:8]


def _stamps(directory: Path) -> dict[Path, tuple[int, ...]]:
    """What shows that a file was changed or replaced."""
    stamps: dict[Path, tuple[int, ...]] = {}
    for path in directory.glob("*.jwk"):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue  # It was removed between the two looks.
        stamps[path] = (found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode)
    return stamps


def _payload_key(secret: OctKey) -> SigningKey:
    """A key that follows from another secret of ours: neither tells of the other."""
    derived = hmac.digest(secret.raw_value, b"spinor payload tokens", hashlib.sha256)
    return SigningKey(f"payload-{secret.kid}", PAYLOAD_ALGORITHM, OctKey.import_key(derived))


def _public(key: SigningKey) -> dict[str, Any]:
    described = {**key.key.as_dict(private=False), "kid": key.kid, "alg": key.algorithm, "use": "sig"}
    return {name: described[name] for name in _PUBLIC_PARTS if name in described}
