"""Asking a VOMS server for attributes, and the vomses files that tell where the servers are.

Two ways exist: HTTPS (`/generate-ac`, of VOMS-AA and IAM) is tried first, and the XML that C VOMS servers speak over
plain TLS when the server answers nothing to it.
"""

import base64
import binascii
import html
import os
import re
import shlex
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, HTTPSConnection, RemoteDisconnected
from pathlib import Path
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spinor.errors import BadInput
from spinor.x509.chain import Purpose, verify_chain
from spinor.x509.dn import canonical_dn, slash_dn
from spinor.x509.proxy import Credential
from spinor.x509.refusals import (
    CredentialRefused,
    VomsesUnreadable,
    VomsServerRefused,
    VomsServerUnreachable,
)
from spinor.x509.trust import TrustStore
from spinor.x509.voms_format import parse_attribute_certificate

TIMEOUT_S = 30.0
_LARGEST_ANSWER_BYTES = 2**20
_FQAN = re.compile(r"(?P<group>(?:/[A-Za-z0-9._~-]+)+)(?:/Role=(?P<role>[A-Za-z0-9._~-]+))?(?:/Capability=NULL)?")
_AC = re.compile(rb"<ac>([A-Za-z0-9+/=\s]+)</ac>")
_MESSAGE = re.compile(rb"<message>([^<]{1,500})")


@dataclass(frozen=True)
class VomsServer:
    """One line of a vomses file: where a VO's server is, and the DN of its certificate."""

    alias: str
    host: str
    port: int
    dn: str
    vo: str


def read_vomses(path: Path) -> list[VomsServer]:
    """The servers in a vomses file, or in each file of a directory, in the order of their names."""
    try:
        files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
        texts = [(file, file.read_text()) for file in files]
    except (OSError, ValueError) as error:
        raise VomsesUnreadable(f"The vomses file {path} cannot be read: {error}.") from None
    found = []
    for file, text in texts:
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                found.append(_server(line, f"{file}:{number}"))
    return found


def _server(line: str, where: str) -> VomsServer:
    try:
        words = shlex.split(line)
    except ValueError:
        words = []
    # A sixth word, the version of Globus, is of no use any more.
    if len(words) not in (5, 6) or not words[2].isdecimal() or not 0 < int(words[2]) < 65536:
        raise VomsesUnreadable(f'{where} must read "alias" "host" "port" "DN of the server" "VO".')
    return VomsServer(words[0], words[1], int(words[2]), words[3], words[4])


def request_attributes(
    voms: VomsServer, credential: Credential, fqans: Sequence[str], lifetime: timedelta, trust: TrustStore
) -> bytes:
    """An attribute certificate (DER) for the credential's owner, from the VO's server; for `with_attributes`.

    The first FQAN is to be the primary one; with none, the server says which the person has. VomsServerRefused when
    it does not give all that were asked for, VomsServerUnreachable (try again) when it does not answer. It blocks.
    """
    wanted = [_groups_and_role(fqan, voms.vo) for fqan in fqans]
    context = _context(credential, trust)
    lifetime_s = int(lifetime.total_seconds())
    try:
        answer = _by_https(voms, context, trust, wanted, lifetime_s)
        if answer is None:
            answer = _by_xml(voms, context, trust, wanted, lifetime_s)
    except (OSError, HTTPException) as error:
        raise VomsServerUnreachable(
            f"The VOMS server {voms.host}:{voms.port} of {voms.vo} does not answer as it should: {error}"
        ) from None
    der = _attribute_certificate(answer, voms)
    given = {_groups_and_role(fqan, voms.vo) for fqan in parse_attribute_certificate(der).fqans}
    if missing := [_written(each) for each in wanted if each not in given]:
        raise VomsServerRefused(f"The VOMS server of {voms.vo} does not give {', '.join(missing)} to this certificate.")
    return der


def _groups_and_role(fqan: str, vo: str) -> tuple[str, str]:
    match = _FQAN.fullmatch(fqan)
    if match is None or match["group"].split("/")[1] != vo:
        raise BadInput(f"{fqan!r} is no FQAN of the VO {vo}, such as /{vo} or /{vo}/group/Role=production.")
    return match["group"], "" if match["role"] in (None, "NULL") else match["role"]


def _written(wanted: tuple[str, str]) -> str:
    group, role = wanted
    return f"{group}/Role={role}" if role else group


# ------------------------------------------------------------------------------ connections


def _context(credential: Credential, trust: TrustStore) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    anchors = trust.anchors()
    if anchors:
        context.load_verify_locations(cadata=b"".join(each.public_bytes(Encoding.DER) for each in anchors))
    with _as_file(credential.pem()) as path:
        context.load_cert_chain(path)
    return context


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A file for a library that takes nothing else; in memory where the system can, so that no key reaches a disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("credential", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
        return
    with tempfile.NamedTemporaryFile() as temporary:  # It is made with mode 0600.
        temporary.write(content)
        temporary.flush()
        yield temporary.name


def _connected(voms: VomsServer, context: ssl.SSLContext, trust: TrustStore) -> tuple[HTTPSConnection, ssl.SSLSocket]:
    """A connection to the server whose name, certificate and DN are the right ones."""
    connection = HTTPSConnection(voms.host, voms.port, context=context, timeout=TIMEOUT_S)
    connection.connect()
    connection.auto_open = 0
    assert isinstance(connection.sock, ssl.SSLSocket)
    try:
        _check_server(voms, connection.sock, trust)
    except BaseException:
        connection.close()
        raise
    return connection, connection.sock


def _check_server(voms: VomsServer, sock: ssl.SSLSocket, trust: TrustStore) -> None:
    """TLS has verified the chain and the name; revocation, signing policies and the vomses' DN are left."""
    der = sock.getpeercert(binary_form=True)
    assert der is not None
    certificate = x509.load_der_x509_certificate(der)
    try:
        verify_chain([certificate], trust, datetime.now(UTC), purpose=Purpose.SERVER)
        dn = slash_dn(certificate.subject)
    except CredentialRefused as error:
        raise VomsServerUnreachable(f"The certificate of the VOMS server {voms.host} does not hold: {error}") from None
    if canonical_dn(dn) != canonical_dn(voms.dn):
        raise VomsServerUnreachable(f"The server at {voms.host}:{voms.port} is {dn}, and not {voms.dn} as vomses says.")


def _by_https(
    voms: VomsServer, context: ssl.SSLContext, trust: TrustStore, wanted: Sequence[tuple[str, str]], lifetime_s: int
) -> bytes | None:
    """The answer to `/generate-ac`; None from a server that does not speak HTTP."""
    query = {"lifetime": str(lifetime_s)}
    if wanted:
        query["fqans"] = ",".join(map(_written, wanted))
    connection, _ = _connected(voms, context, trust)
    try:
        connection.request("GET", f"/generate-ac?{urlencode(query, safe='/=,')}", headers={"Accept": "*/*"})
        response = connection.getresponse()
        answer = response.read(_LARGEST_ANSWER_BYTES)
        return None if response.status == 404 and b"<voms" not in answer else answer
    except RemoteDisconnected:
        return None
    finally:
        connection.close()


def _by_xml(
    voms: VomsServer, context: ssl.SSLContext, trust: TrustStore, wanted: Sequence[tuple[str, str]], lifetime_s: int
) -> bytes:
    asked = wanted or [(f"/{voms.vo}", "")]
    commands = "".join(
        f"<command>B{group}:{role}</command>" if role else f"<command>G{group}</command>" for group, role in asked
    )
    order = ",".join(f"{group}:{role}" if role else group for group, role in asked)
    request = (
        f'<?xml version="1.0" encoding="US-ASCII"?><voms>{commands}<order>{order}</order>'
        f"<base64>1</base64><version>4</version><lifetime>{lifetime_s}</lifetime></voms>"
    )
    connection, sock = _connected(voms, context, trust)
    try:
        sock.sendall(request.encode("ascii"))
        answer = b""
        while b"</vomsans>" not in answer and len(answer) < _LARGEST_ANSWER_BYTES:
            received = sock.recv(65536)
            if not received:
                break
            answer += received
        return answer
    finally:
        connection.close()


def _attribute_certificate(answer: bytes, voms: VomsServer) -> bytes:
    """What the server sends, or the reason it gives: without attributes it sends a single letter."""
    match = _AC.search(answer)
    try:
        der = base64.b64decode(b"".join(match[1].split()), validate=True) if match else b""
    except binascii.Error:
        der = b""
    if len(der) > 1:
        return der
    reason = _MESSAGE.search(answer)
    text = html.unescape(reason[1].decode("ascii", "replace")) if reason else "it gives no reason"
    raise VomsServerRefused(f"The VOMS server {voms.host} gives no attributes of {voms.vo}: {text}")
