"""Findings about the private key of a host certificate. Nothing of the key goes into a sentence."""

import stat
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from spinor.x509.diagnosis.findings import Finding, Severity, finding


def key_findings(certificate: x509.Certificate, key_file: Path) -> Iterator[Finding]:
    subject = str(key_file)
    try:
        mode = key_file.stat().st_mode
        content = key_file.read_bytes()
    except OSError as error:
        yield finding("key-unreadable", subject, f"The key cannot be read: {error.strerror}.")
        return
    yield from exposure_findings(key_file, mode)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        yield finding("key-unreadable", subject, "The key has a passphrase, which nobody gives to a starting server.")
        return
    except (ValueError, UnsupportedAlgorithm):
        yield finding("key-unreadable", subject, "The file holds no private key in PEM form.")
        return
    if key.public_key() != certificate.public_key():
        yield finding("key-foreign", subject, "The key belongs to another certificate.")


def exposure_findings(file: Path, mode: int) -> Iterator[Finding]:
    """A group of its own may be meant (as Debian's ssl-cert is); everybody never is."""
    remedy = f"Run `chmod 600 {file}`; if anybody else had an account there, make a new key."
    if mode & stat.S_IRWXO:
        sentence = f"Every account of the machine can read or change the key (mode {stat.S_IMODE(mode):o})."
        yield finding("key-exposed", str(file), sentence, remedy=remedy)
    elif mode & stat.S_IRWXG:
        sentence = f"The group of the file can read or change the key (mode {stat.S_IMODE(mode):o})."
        yield finding("key-exposed", str(file), sentence, remedy=remedy, severity=Severity.WARNING)
