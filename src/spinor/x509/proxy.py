"""Making RFC 3820 proxies, delegating them without moving a private key, and keeping them in files."""

import os
import secrets
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from spinor.credentials import UnsafeFile, write_secret
from spinor.x509.chain import extension_value, key_weakness
from spinor.x509.dn import named
from spinor.x509.proxy_rules import Language, ProxyInfo, proxy_extension, proxy_info
from spinor.x509.refusals import (
    MALFORMED,
    ChainEmpty,
    ChainExpired,
    ChainMalformed,
    CredentialMismatch,
    CredentialUnreadable,
    ProxyKeyUsage,
    ProxyPathLength,
    RequestRefused,
)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
Passphrase = Callable[[], bytes]

# Clocks of other machines may be a little behind ours.
CLOCK_ALLOWANCE = timedelta(minutes=5)
RSA_BITS = 2048
_LARGEST_FILE_BYTES = 2**20


@dataclass(frozen=True)
class Credential:
    """A certificate chain, leaf first, and the leaf's private key."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        if not self.chain:
            raise ChainEmpty("A credential needs a certificate.")
        try:
            own_key = self.chain[0].public_key()
        except MALFORMED:
            raise ChainMalformed(named(self.chain[0], "has a key that is malformed or of an unknown kind")) from None
        if self.key.public_key() != own_key:
            raise CredentialMismatch(named(self.chain[0], "does not belong to the key that is given with it"))

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def not_after(self) -> datetime:
        """The earliest end in the chain."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)

    def pem(self) -> bytes:
        """The content of a proxy file: the leaf, its key without a passphrase, the rest of the chain."""
        first, *rest = (each.public_bytes(serialization.Encoding.PEM) for each in self.chain)
        return b"".join([first, _key_pem(self.key), *rest])


# ------------------------------------------------------------------------------ making proxies


def generate_key() -> rsa.RSAPrivateKey:
    """A new key for a proxy: RSA, since old storages and computing elements take nothing else."""
    return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)


def issue_proxy(
    chain: Sequence[x509.Certificate],
    key: PrivateKey,
    public_key: PublicKey,
    *,
    lifetime: timedelta,
    limited: bool = False,
    path_length: int | None = None,
    extensions: Sequence[x509.Extension[x509.ExtensionType]] = (),
    now: datetime,
) -> x509.Certificate:
    """A proxy for `public_key`, signed by `key`, which belongs to `chain[0]`.

    It never outlives a certificate of the chain, and it is limited when one of them is, whatever was asked for.
    `extensions` carries what `voms.with_attributes` makes.
    """
    issuer = Credential(tuple(chain), key).leaf
    infos = _infos(chain)
    not_after = min([now + lifetime, *(each.not_valid_after_utc for each in chain)])
    if not_after <= now:
        raise ChainExpired(named(issuer, "has expired (or one above it), so it issues no proxy"))
    serial = secrets.randbits(63) | 1 << 62
    builder = (
        x509.CertificateBuilder()
        .serial_number(serial)
        .issuer_name(issuer.subject)
        .subject_name(_below(issuer.subject, str(serial)))
        .public_key(public_key)
        .not_valid_before(max(now - CLOCK_ALLOWANCE, issuer.not_valid_before_utc))
        .not_valid_after(not_after)
        .add_extension(_key_usage(issuer, public_key), critical=True)
        # Without it, verification as strict as Python's since 3.13 refuses the proxy.
        .add_extension(_authority_key(issuer), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    is_limited = limited or any(info.language is Language.LIMITED for info in infos)
    language = Language.LIMITED if is_limited else Language.INHERIT_ALL
    for extension in (proxy_extension(language, _path_length(issuer, infos, path_length)), *extensions):
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(key, _hash_for(key))


def make_proxy(
    credential: Credential,
    *,
    lifetime: timedelta,
    limited: bool = False,
    path_length: int | None = None,
    extensions: Sequence[x509.Extension[x509.ExtensionType]] = (),
    now: datetime,
) -> Credential:
    """A proxy below the credential, with a new key."""
    key = generate_key()
    leaf = issue_proxy(
        credential.chain, credential.key, key.public_key(),
        lifetime=lifetime, limited=limited, path_length=path_length, extensions=extensions, now=now,
    )  # fmt: skip
    return Credential((leaf, *credential.chain), key)


def make_request(key: PrivateKey) -> x509.CertificateSigningRequest:
    """A request for a proxy: whoever receives a delegation makes the key, and sends this."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "delegation")])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, _hash_for(key))


def sign_request(
    csr: x509.CertificateSigningRequest,
    chain: Sequence[x509.Certificate],
    key: PrivateKey,
    *,
    lifetime: timedelta,
    limited: bool = False,
    path_length: int | None = None,
    extensions: Sequence[x509.Extension[x509.ExtensionType]] = (),
    now: datetime,
) -> x509.Certificate:
    """Delegate: a proxy for the key of the request. Of the request only the key counts, not its name or extensions."""
    try:
        is_valid = csr.is_signature_valid
        public_key = csr.public_key()
    except MALFORMED as error:
        raise RequestRefused(f"The certificate request is malformed: {str(error)[:200]}") from None
    if not is_valid:
        raise RequestRefused("The certificate request is not signed by the key that it carries.")
    if weakness := key_weakness(public_key):
        raise RequestRefused(f"The certificate request has {weakness}.")
    assert isinstance(public_key, PublicKey)
    if public_key == chain[0].public_key():
        raise RequestRefused("The certificate request has the issuer's own key; a proxy needs a key of its own.")
    return issue_proxy(
        chain, key, public_key,
        lifetime=lifetime, limited=limited, path_length=path_length, extensions=extensions, now=now,
    )  # fmt: skip


def _infos(chain: Sequence[x509.Certificate]) -> list[ProxyInfo]:
    try:
        return [info for info in map(proxy_info, chain) if info is not None]
    except MALFORMED as error:
        raise ChainMalformed(f"A certificate is malformed: {str(error)[:200]}") from None


def _below(name: x509.Name, added: str) -> x509.Name:
    rdn = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, added)])
    return x509.Name([*name.rdns, rdn])


def _path_length(issuer: x509.Certificate, infos: Sequence[ProxyInfo], asked: int | None) -> int | None:
    """What the new proxy may say: no more than each proxy above it leaves."""
    left = [info.path_length - depth - 1 for depth, info in enumerate(infos) if info.path_length is not None]
    if left and min(left) < 0:
        raise ProxyPathLength(named(issuer, "allows no further proxy below itself"))
    limits = [*left, *([asked] if asked is not None else [])]
    return min(limits) if limits else None


def _key_usage(issuer: x509.Certificate, public_key: PublicKey) -> x509.KeyUsage:
    usage = extension_value(issuer, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise ProxyKeyUsage(named(issuer, "has a key that is not for digital signatures, so it issues no proxy"))
    may_encipher = isinstance(public_key, rsa.RSAPublicKey) and (usage is None or usage.key_encipherment)
    return x509.KeyUsage(
        digital_signature=True, key_encipherment=may_encipher, content_commitment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = extension_value(issuer, x509.SubjectKeyIdentifier)
    if own is not None:
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]


def _hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    match key:
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return None
        case ec.EllipticCurvePrivateKey():
            return (
                hashes.SHA256() if key.key_size <= 256 else hashes.SHA384() if key.key_size <= 384 else hashes.SHA512()
            )
        case _:
            return hashes.SHA256()


# ------------------------------------------------------------------------------ files


def proxy_path() -> Path:
    """Where the tools of the field look for a proxy: $X509_USER_PROXY, or /tmp/x509up_u<uid>."""
    if given := os.environ.get("X509_USER_PROXY"):
        return Path(given)
    return Path("/tmp", f"x509up_u{os.getuid()}")  # noqa: S108  The field's own place; read with O_NOFOLLOW.


def user_certificate_paths() -> tuple[Path, Path]:
    """$X509_USER_CERT and $X509_USER_KEY, or usercert.pem and userkey.pem of ~/.globus."""
    globus = Path.home() / ".globus"
    certificate, key = os.environ.get("X509_USER_CERT"), os.environ.get("X509_USER_KEY")
    return Path(certificate or globus / "usercert.pem"), Path(key or globus / "userkey.pem")


def read_credential(path: Path, key_path: Path | None = None, *, passphrase: Passphrase | None = None) -> Credential:
    """The credential in a proxy file, or in a certificate file and a key file beside it.

    The file with the key must be the user's alone (UnsafeFile); `passphrase` is asked only when the key is encrypted.
    """
    if key_path is None:
        data = key_data = _read_secret(path, follow=False)
    else:
        data, key_data = _read_plain(path), _read_secret(key_path, follow=True)
    return parse_credential(data, key_data, source=str(path), passphrase=passphrase)


def parse_credential(
    data: bytes, key_data: bytes | None = None, *, source: str = "The text", passphrase: Passphrase | None = None
) -> Credential:
    """The credential in PEM text; `source` names it in errors."""
    try:
        chain = x509.load_pem_x509_certificates(data)
    except MALFORMED:
        raise CredentialUnreadable(f"{source} holds no certificate in PEM form.") from None
    key = _load_key(_key_block(data if key_data is None else key_data), source, passphrase)
    return Credential(tuple(chain), key)


def parse_chain(data: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in PEM text, in its order."""
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except MALFORMED:
        raise CredentialUnreadable("The text holds no certificate in PEM form.") from None


def write_credential(path: Path, credential: Credential) -> None:
    """Put the proxy file in place in one step: mode 0600, never through a link, never half-written."""
    write_secret(path, credential.pem())


def _key_block(data: bytes) -> bytes:
    """The private key's lines, since a proxy file has them between certificates."""
    begin = data.find(b"-----BEGIN ")
    while begin >= 0:
        title = data[begin + 11 : data.find(b"-----", begin + 11)]
        end = data.find(b"-----END " + title + b"-----", begin)
        if title.endswith(b"PRIVATE KEY") and end >= 0:
            return data[begin : end + len(title) + 14] + b"\n"
        begin = data.find(b"-----BEGIN ", begin + 11)
    return b""


def _load_key(block: bytes, source: str, passphrase: Passphrase | None) -> PrivateKey:
    if not block:
        raise CredentialUnreadable(f"{source} holds no private key in PEM form.")
    try:
        try:
            key = serialization.load_pem_private_key(block, None)
        except TypeError:  # So the library says that the key is encrypted.
            if passphrase is None:
                raise CredentialUnreadable(f"The private key of {source} needs its passphrase.") from None
            key = serialization.load_pem_private_key(block, passphrase())
    except MALFORMED:
        raise CredentialUnreadable(f"The private key of {source} cannot be read; is the passphrase right?") from None
    if not isinstance(key, PrivateKey):
        raise CredentialUnreadable(f"The private key of {source} is of a kind that is not accepted; use RSA or ECDSA.")
    return key


def _key_pem(key: PrivateKey) -> bytes:
    # Globus and XRootD read the traditional form only; the Edwards curves have none.
    traditional = isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    form = serialization.PrivateFormat.TraditionalOpenSSL if traditional else serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _read_plain(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_FILE_BYTES)
    except OSError as error:
        raise CredentialUnreadable(f"The file {path} cannot be read: {error.strerror}.") from None


def _read_secret(path: Path, *, follow: bool) -> bytes:
    """The content of a file that only its owner may read. /tmp is everybody's, so no link is followed there."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise CredentialUnreadable(f"The file {path} cannot be read: {error.strerror}.") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeFile(f"{path} is not a file.")
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise UnsafeFile(f"The key in {path} is not yours alone to read; `chmod 600` it if it is yours.")
        return file.read(_LARGEST_FILE_BYTES)
