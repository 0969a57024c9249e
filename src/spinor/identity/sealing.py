"""Secrets at rest: encrypted in the database with a key that is not in it.

AES-256-GCM by `cryptography`. The keys are files of the key directory (`*-a256gcm-*.jwk`): the newest one seals, all of
them open, so that a key is changed by adding one. What a secret is about is authenticated with it: a sealed value that
is copied to another row does not open there.
"""

import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spinor.errors import SpinorError

_VERSION = b"\x01"
_NONCE = 12


class SealBroken(SpinorError):
    """A stored secret cannot be opened: its key is not in the key directory any more, or it was changed."""

    code = "seal-broken"


class Seal:
    """The keys that close and open secrets, by the 8 first bytes of their name, oldest first."""

    def __init__(self, keys: Mapping[bytes, bytes]) -> None:
        self._keys = {name: AESGCM(key) for name, key in keys.items()}
        self._newest = list(keys)[-1]

    @property
    def head(self) -> bytes:
        """How everything begins that is sealed now."""
        return head_of(self._newest)

    def close(self, secret: bytes, about: str) -> bytes:
        """The secret, sealed. `about` says what it is (`proxy 17`), and is needed to open it."""
        nonce = secrets.token_bytes(_NONCE)
        head = self.head
        return head + nonce + self._keys[self._newest].encrypt(nonce, secret, head + about.encode())

    def open(self, sealed: bytes, about: str) -> bytes:
        """The secret. SealBroken when the key is gone, or the value is not the one that was sealed for this."""
        head, nonce, rest = sealed[:9], sealed[9 : 9 + _NONCE], sealed[9 + _NONCE :]
        key = self._keys.get(head[1:])
        if head[:1] != _VERSION or key is None:
            raise SealBroken("A stored secret was sealed with a key that is not in the key directory.")
        try:
            return key.decrypt(nonce, rest, head + about.encode())
        except InvalidTag:
            raise SealBroken("A stored secret does not open: it was changed, or belongs to something else.") from None


def head_of(name: bytes) -> bytes:
    """How everything begins that the key of this name has sealed."""
    return _VERSION + name
