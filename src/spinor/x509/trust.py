"""The certificate authorities that are trusted here: a directory as IGTF distributes it, and as fetch-crl keeps it.

Per authority `<hash>.0` (PEM or DER), `<hash>.r0` its revocation list, `<hash>.signing_policy` and `<hash>.namespaces`
what it may sign; beside these, bundles in *.pem and *.crt files. The directory is looked at again every ten seconds at
most, and what was read replaces the former as a whole.
"""

import logging
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from cryptography import x509

from spinor.x509.dn import canonical_dn, shown_dn, slash_dn
from spinor.x509.policies import (
    NOTHING,
    Policy,
    PolicyMalformed,
    all_allow,
    merged,
    read_namespaces,
    read_signing_policy,
)
from spinor.x509.refusals import MALFORMED, ChainCRLUnusable, DNAmbiguous, TrustUnreadable

LOOK_AGAIN_S = 10.0
_READ_AGAIN = 3
_LARGEST_FILE_BYTES = 64 * 2**20
_CERTIFICATE_FILE = re.compile(r"(?P<stem>.+)\.(?:[0-9]|pem|crt)")
_CRL_FILE = re.compile(r"(?P<stem>.+)\.(?:r[0-9]|crl)")

log = logging.getLogger(__name__)


class CRLPolicy(StrEnum):
    """What a revocation list is to a chain."""

    REQUIRED = "required"  # An authority without a list is refused.
    IF_PRESENT = "if_present"  # A list that is there must be valid, and is obeyed.
    IGNORE = "ignore"


@dataclass
class _Revocations:
    """One list and, once it was asked for, its content by serial number."""

    crl: x509.CertificateRevocationList
    _serials: dict[int, datetime] | None = None

    def revoked_at(self, serial: int) -> datetime | None:
        if self._serials is None:
            self._serials = {entry.serial_number: entry.revocation_date_utc for entry in self.crl}
        return self._serials.get(serial)


@dataclass(frozen=True)
class _Snapshot:
    """The directory at one moment."""

    signature: object
    anchors: Mapping[x509.Name, tuple[x509.Certificate, ...]]
    crls: Mapping[x509.Name, tuple[x509.CertificateRevocationList, ...]]
    unreadable_crls: frozenset[x509.Name]  # Of these authorities a list is there that cannot be read.
    policies: Mapping[str, tuple[Policy, ...]]
    problems: tuple[str, ...]
    verified: dict[x509.Certificate, _Revocations | None] = field(default_factory=dict)


class TrustStore:
    """The authorities of one directory; may be used by several threads at once."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.directory = directory
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at = clock()
        self._snapshot = _read(directory)

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read in the directory, as sentences."""
        return self._current().problems

    def anchors(self) -> list[x509.Certificate]:
        """Every certificate of the directory."""
        return [anchor for anchors in self._current().anchors.values() for anchor in anchors]

    def anchors_for(self, issuer: x509.Name) -> tuple[x509.Certificate, ...]:
        """The certificates of the authority of this name."""
        return self._current().anchors.get(issuer, ())

    def crl_for(self, ca: x509.Certificate) -> x509.CertificateRevocationList | None:
        """The newest list that this authority has signed; ChainCRLUnusable when what is there is none of it."""
        found = self._revocations(ca)
        return found.crl if found else None

    def revoked_at(self, ca: x509.Certificate, serial: int) -> datetime | None:
        """When the authority revoked the certificate with this serial number, if it did."""
        found = self._revocations(ca)
        return found.revoked_at(serial) if found else None

    def has_policy(self, ca: x509.Certificate) -> bool:
        return bool(self._current().policies.get(canonical_dn(slash_dn(ca.subject))))

    def policy_allows(self, ca: x509.Certificate, subject: x509.Name) -> bool:
        """Whether every signing policy of this authority covers the subject; true when it has none."""
        policies = self._current().policies.get(canonical_dn(slash_dn(ca.subject)), ())
        return all_allow(policies, slash_dn(subject))

    def _current(self) -> _Snapshot:
        if self._clock() - self._looked_at < LOOK_AGAIN_S or not self._lock.acquire(blocking=False):
            return self._snapshot
        try:
            if _signature(self.directory) != self._snapshot.signature:
                self._snapshot = _read(self.directory, self._snapshot)
        except (TrustUnreadable, OSError) as error:
            log.warning("The directory %s is kept as it was read last: %s", self.directory, error)
        finally:
            self._looked_at = self._clock()
            self._lock.release()
        return self._snapshot

    def _revocations(self, ca: x509.Certificate) -> _Revocations | None:
        snapshot = self._current()
        if ca not in snapshot.verified:
            snapshot.verified[ca] = _verified_revocations(snapshot, ca)
        return snapshot.verified[ca]


def _verified_revocations(snapshot: _Snapshot, ca: x509.Certificate) -> _Revocations | None:
    crls = snapshot.crls.get(ca.subject, ())
    reasons = []
    for crl in sorted(crls, key=lambda each: each.last_update_utc, reverse=True):
        reason = _fault(crl, ca)
        if reason is None:
            return _Revocations(crl)
        reasons.append(reason)
    if ca.subject in snapshot.unreadable_crls:
        reasons.append("it cannot be read")
    if reasons:
        raise ChainCRLUnusable(
            f"The revocation list of {shown_dn(ca.subject)} cannot be relied upon: {reasons[0]}. Run fetch-crl."
        )
    return None


def _fault(crl: x509.CertificateRevocationList, ca: x509.Certificate) -> str | None:
    """Why this list does not tell what this authority has revoked."""
    try:
        usage = ca.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.crl_sign:
            return "the authority's key is not for signing revocation lists"
    except x509.ExtensionNotFound:
        pass  # A key without stated usage is for everything.
    except MALFORMED:
        return "the authority's certificate is malformed"
    try:
        # Lists for a part of the certificates, and changes to other lists, say so critically (RFC 5280, 5.2).
        for extension in crl.extensions:
            if extension.critical and not _is_whole(extension.value):
                return f"it has the critical extension {extension.oid.dotted_string}, which is not understood here"
        algorithm = crl.signature_hash_algorithm
        if algorithm is not None and algorithm.name in ("md5", "sha1"):
            return f"it is signed with {algorithm.name.upper()}"
        if not crl.is_signature_valid(ca.public_key()):  # type: ignore[arg-type]
            return "it is not signed by this authority"
        _ = crl.next_update_utc
    except MALFORMED:
        return "it is malformed"
    return None


def _is_whole(value: x509.ExtensionType) -> bool:
    """Whether a critical extension says no more than where this list, of all certificates, is published."""
    if not isinstance(value, x509.IssuingDistributionPoint):
        return False
    return not (
        value.only_contains_user_certs
        or value.only_contains_ca_certs
        or value.only_contains_attribute_certs
        or value.only_some_reasons
        or value.indirect_crl
    )


# --------------------------------------------------------------------------------------- reading


def _signature(directory: Path) -> object:
    """What changes when a file of the directory changes; links are followed, since fetch-crl writes behind them."""
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise TrustUnreadable(f"The directory {directory} cannot be read: {error.strerror}.") from None
    found = []
    for path in entries:
        try:
            status = path.stat()
        except OSError:
            continue  # A link to nowhere, or a file that was just replaced.
        found.append((path.name, status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


def _read(directory: Path, former: _Snapshot | None = None) -> _Snapshot:
    """Read the directory until it did not change meanwhile."""
    for _ in range(_READ_AGAIN):
        before = _signature(directory)
        snapshot = _Reader(directory, former).read(before)
        if _signature(directory) == before:
            return snapshot
    if former is not None:
        return former  # Somebody is writing just now; the next look will find it finished.
    return snapshot


class _Reader:
    """One reading of the directory."""

    def __init__(self, directory: Path, former: _Snapshot | None) -> None:
        self._directory = directory
        self._former = former
        self._by_stem: dict[str, list[x509.Certificate]] = defaultdict(list)
        self._crls: dict[x509.Name, list[x509.CertificateRevocationList]] = defaultdict(list)
        self._unreadable: set[x509.Name] = set()
        self._policies: list[Mapping[str, Policy]] = []
        self._problems: list[str] = []

    def read(self, signature: object) -> _Snapshot:
        paths = sorted(path for path in self._directory.iterdir() if path.is_file())
        for path in paths:
            if match := _CERTIFICATE_FILE.fullmatch(path.name):
                self._by_stem[match["stem"]] += self._certificates(path)
        for path in paths:
            if match := _CRL_FILE.fullmatch(path.name):
                self._take_crl(path, match["stem"])
            elif path.suffix in (".signing_policy", ".namespaces"):
                self._take_policy(path)
        anchors: dict[x509.Name, dict[x509.Certificate, None]] = defaultdict(dict)
        for certificates in self._by_stem.values():
            for certificate in certificates:
                anchors[certificate.subject][certificate] = None
        for problem in self._problems:
            if self._former is None or problem not in self._former.problems:
                log.warning("%s", problem)
        return _Snapshot(
            signature,
            {name: tuple(certificates) for name, certificates in anchors.items()},
            {name: tuple(crls) for name, crls in self._crls.items()},
            frozenset(self._unreadable),
            merged(self._policies),
            tuple(self._problems),
        )

    def _content(self, path: Path) -> bytes:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE_BYTES + 1)
        if len(data) > _LARGEST_FILE_BYTES:
            raise ValueError("it is too large")
        return data

    def _certificates(self, path: Path) -> list[x509.Certificate]:
        try:
            data = self._content(path)
            if b"-----BEGIN" in data:
                found = x509.load_pem_x509_certificates(data)
            else:
                found = [x509.load_der_x509_certificate(data)]
            for certificate in found:
                slash_dn(certificate.subject)
            return found
        except (*MALFORMED, OSError, DNAmbiguous) as error:
            self._problems.append(f"{path} holds no certificates that can be read: {error}")
            return []

    def _take_crl(self, path: Path, stem: str) -> None:
        try:
            data = self._content(path)
            load = x509.load_pem_x509_crl if b"-----BEGIN" in data else x509.load_der_x509_crl
            crl = load(data)
            self._crls[crl.issuer].append(crl)
            _ = crl.last_update_utc
        except (*MALFORMED, OSError) as error:
            # What was revoked must not come back because a file was damaged.
            for certificate in self._by_stem.get(stem, ()):
                kept = self._former.crls.get(certificate.subject, ()) if self._former else ()
                self._crls[certificate.subject] += kept
                if not kept:
                    self._unreadable.add(certificate.subject)
            self._problems.append(f"{path} holds no revocation list that can be read: {error}")

    def _take_policy(self, path: Path) -> None:
        own_names = self._names(self._by_stem.get(path.stem, ()))
        try:
            text = self._content(path).decode()
            if path.suffix == ".namespaces":
                self._policies.append(read_namespaces(text, own_names))
            else:
                self._policies.append(read_signing_policy(text))
        except (PolicyMalformed, ValueError, OSError) as error:
            self._policies.append(dict.fromkeys(own_names, NOTHING))
            self._problems.append(f"{path} is not understood, so its authority may sign nothing: {error}")

    @staticmethod
    def _names(certificates: Iterable[x509.Certificate]) -> list[str]:
        return [canonical_dn(slash_dn(certificate.subject)) for certificate in certificates]
