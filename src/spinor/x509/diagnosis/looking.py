"""Look at the certificates a server sends, whatever is wrong with them; and what Python and OpenSSL say of them."""

import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spinor.errors import NotFound
from spinor.x509.diagnosis.trusting import Trust
from spinor.x509.names import as_address
from spinor.x509.refusals import ChainCRLUnusable
from spinor.x509.tls import client_context

TIMEOUT_S = 10.0


class NoAnswer(NotFound):
    """The host does not answer, or not in TLS."""

    code = "host-does-not-answer"


class Place(msgspec.Struct, frozen=True):
    """Where to connect to, and the name to say there (SNI)."""

    address: str
    port: int
    name: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What another verification says."""

    by: str
    code: str  # The finding when it refuses what all our rules let pass.
    accepts: bool | None  # None when it did not come to a verdict.
    says: str = ""


def addresses(host: str, port: int) -> list[str]:
    """Every address of the host, in the order of the resolver."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NoAnswer(f"The name {host} cannot be resolved: {getattr(error, 'strerror', None) or error}.") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def other_names(host: str) -> list[str]:
    """The canonical name of the host, and the names of its addresses: what an alias stands for."""
    found: list[str] = []
    try:
        for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME):
            found += [entry[3]] if entry[3] else []
            try:
                name, aliases, _ = socket.gethostbyaddr(str(entry[4][0]))
                found += [name, *aliases]
            except OSError:
                continue  # An address without a name.
    except (OSError, UnicodeError):
        return []
    return [name for name in dict.fromkeys(found) if name.lower() != host.lower() and as_address(name) is None]


def sent_chain(place: Place, timeout_s: float = TIMEOUT_S) -> list[x509.Certificate]:
    """The certificates as the server sends them, its own first. Nothing but the handshake is ever sent.

    This is the one place that talks to a server without verifying it, since a chain that OpenSSL refuses is not shown
    by Python in any other way. The connection is closed at once, and what came is judged by the rules of this package.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")  # A server with a weak key is to be seen, too.
    try:
        with socket.create_connection((place.address, place.port), timeout_s) as plain:
            with context.wrap_socket(plain, server_hostname=place.name, do_handshake_on_connect=False) as connection:
                fault: OSError | None = None
                try:
                    connection.do_handshake()
                except OSError as error:
                    fault = error  # A server that wants a client's certificate ends here, and has sent its own before.
                chain = _chain_of(connection)
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{place.address} port {place.port} does not answer: {_reason(error)}.") from None
    if not chain:
        raise NoAnswer(f"{place.address} port {place.port} does not speak TLS: {_reason(fault)}.")
    return chain


def _chain_of(connection: ssl.SSLSocket) -> list[x509.Certificate]:
    """Python shows what was sent from 3.13 on; before, its TLS object could do it already, under its inner name."""
    if hasattr(connection, "get_unverified_chain"):
        return [x509.load_der_x509_certificate(each) for each in connection.get_unverified_chain()]
    inner = connection._sslobj  # type: ignore[attr-defined]
    sent = (inner.get_unverified_chain() if inner is not None else None) or []
    return [x509.load_pem_x509_certificate(each.public_bytes().encode()) for each in sent]


def python_verdict(place: Place, ca: Path | None, timeout_s: float = TIMEOUT_S) -> Verdict:
    """Connect as every client of Spinor does."""
    by = f"Python with {ssl.OPENSSL_VERSION.rsplit(' ', 3)[0]}"
    try:
        with socket.create_connection((place.address, place.port), timeout_s) as plain:
            with client_context(ca).wrap_socket(plain, server_hostname=place.name):
                return Verdict(by=by, code="refused-by-python", accepts=True)
    except ssl.SSLCertVerificationError as error:
        return Verdict(by=by, code="refused-by-python", accepts=False, says=error.verify_message.rstrip("."))
    except (OSError, ValueError) as error:
        # Such as a server that wants a client's certificate: that tells nothing about its own.
        return Verdict(by=by, code="refused-by-python", accepts=None, says=_reason(error))


def openssl_verdict(
    chain: Sequence[x509.Certificate], trust: Trust, name: str | None, now: datetime, *, with_crls: bool
) -> Verdict | None:
    """What `openssl verify` says; None where that program is not installed. It still looks at common names."""
    program = shutil.which("openssl")
    if program is None:
        return None
    anchors = trust.anchors()
    with tempfile.TemporaryDirectory(prefix="spinor-cert-") as directory:
        files = {word: Path(directory, f"{word}.pem") for word in ("CAfile", "untrusted", "CRLfile", "host")}
        files["CAfile"].write_bytes(b"".join(map(_pem, anchors)))
        files["untrusted"].write_bytes(b"".join(map(_pem, chain[1:])))
        files["host"].write_bytes(_pem(chain[0]))
        command = [program, "verify", "-no-CApath", "-no-CAstore", "-purpose", "sslserver", "-auth_level", "2"]
        command += ["-attime", str(int(now.timestamp())), "-CAfile", str(files["CAfile"])]
        if chain[1:]:
            command += ["-untrusted", str(files["untrusted"])]
        if with_crls:
            files["CRLfile"].write_bytes(b"".join(_crls(anchors, trust)))
            command += ["-crl_check", "-CRLfile", str(files["CRLfile"])]
        if name is not None:
            command += ["-verify_hostname" if as_address(name) is None else "-verify_ip", name]
        done = subprocess.run([*command, str(files["host"])], capture_output=True, text=True, check=False, timeout=30)
    faults = [line.partition("lookup: ")[2] for line in done.stderr.splitlines() if "lookup: " in line]
    return Verdict(by="openssl verify", code="refused-by-openssl", accepts=done.returncode == 0, says=", ".join(faults))


def _crls(anchors: Sequence[x509.Certificate], trust: Trust) -> list[bytes]:
    found = []
    for anchor in anchors:
        try:
            crl = trust.crl_for(anchor)
        except ChainCRLUnusable:
            continue  # OpenSSL then tells that there is none.
        if crl is not None:
            found.append(crl.public_bytes(Encoding.PEM))
    return found


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return str(getattr(error, "strerror", None) or error or "the connection was closed")
