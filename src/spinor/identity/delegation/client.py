"""Certificates on the client's side: finding one's own, signing in with it, delegating it."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from spinor.client import Client, RemoteError, TokenAnswer
from spinor.credentials import UnsafeFile
from spinor.errors import BadInput, Denied, NotFound
from spinor.identity.delegation.models import (
    AskedAttributes,
    DelegateProxy,
    GivenProxy,
    KeyKind,
    LinkCertificate,
    LinkedCertificate,
    NewProxy,
    ProxyRequest,
    RequestProxy,
    SignedChain,
    Source,
    StoredProxy,
)
from spinor.x509.assertion import make_assertion
from spinor.x509.proxy import (
    Credential,
    PrivateKey,
    generate_key,
    make_request,
    parse_chain,
    parse_credential,
    proxy_path,
    read_credential,
    sign_request,
    user_certificate_paths,
)
from spinor.x509.refusals import CredentialUnreadable

ASSERTION_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class NoCertificate(NotFound):
    """There is no proxy and no certificate here."""

    code = "no-certificate"


def assertion_login(
    client: Client, *, proxy: Path | None, vo: str = "", group: str = "", scope: str = ""
) -> TokenAnswer:
    """Tokens for the owner of the proxy in this file, or of the proxy or certificate in the usual places.

    The key signs an assertion that is good for this service and for one minute. May ask for a passphrase.
    """
    credential = find_credential(proxy)
    form = {
        "grant_type": ASSERTION_GRANT,
        "client_id": "spinor-cli",
        "assertion": make_assertion(credential, audience=client.url, now=datetime.now(UTC)),
    }
    form |= {name: value for name, value in (("vo", vo), ("group", group), ("scope", scope)) if value}
    try:
        return client.token_request(form)
    except RemoteError as error:
        # The token endpoint knows one status for every refusal (RFC 6749); the exit code should tell more.
        if error.status == 400:
            raise (BadInput if error.code == "role-unclear" else Denied)(error.message) from None
        raise


def link_certificate(client: Client, own: Credential) -> LinkedCertificate:
    """Let whoever is signed in sign in with this certificate, and proxies of it, from now on. No proxy will do here."""
    audience = f"{client.url}/api/x509/link"
    assertion = make_assertion(own, audience=audience, now=datetime.now(UTC))
    return client.post("/api/x509/link", LinkCertificate(assertion=assertion), LinkedCertificate)


# ------------------------------------------------------------------------------ one's own


def find_credential(proxy: Path | None = None) -> Credential:
    """The proxy in this file; without one that of the usual place while it lasts, or else the user's certificate."""
    if proxy is not None:
        return read_credential(proxy)
    usual = proxy_path()
    expired = ""
    if usual.exists():
        found = read_credential(usual)
        if found.not_after > datetime.now(UTC) + timedelta(minutes=1):
            return found
        expired = f"The proxy {usual} has expired. "
    return find_certificate(before=expired)


def find_certificate(certificate: Path | None = None, key: Path | None = None, *, before: str = "") -> Credential:
    """The user's certificate from these files, or from $X509_USER_CERT and $X509_USER_KEY, or from ~/.globus.

    A PKCS#12 file (.p12) holds both. Asks for the passphrase of the key when it has one.
    """
    usual_certificate, usual_key = user_certificate_paths()
    certificate, key = certificate or usual_certificate, key or usual_key
    bundle = certificate if certificate.suffix == ".p12" else certificate.with_name("usercred.p12")
    if bundle == certificate or (not certificate.exists() and bundle.exists()):
        return _read_pkcs12(bundle)
    if not certificate.exists():
        raise NoCertificate(
            f"{before}There is no proxy at {proxy_path()} and no certificate at {certificate}; name one with --proxy "
            "or --cert, or put usercert.pem and userkey.pem into ~/.globus."
        )
    return read_credential(certificate, key, passphrase=lambda: _ask_passphrase(key))


def _read_pkcs12(path: Path) -> Credential:
    # A link is followed, since this is the user's own directory.
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UnsafeFile(f"The key in {path} is not yours alone to read; `chmod 600` it if it is yours.")
    try:
        found = pkcs12.load_pkcs12(path.read_bytes(), _ask_passphrase(path))
    except ValueError:
        raise CredentialUnreadable(f"{path} cannot be read; is the passphrase right?") from None
    if found.cert is None or not isinstance(found.key, PrivateKey):
        raise CredentialUnreadable(f"{path} holds no certificate with an RSA or ECDSA key.")
    above = [each.certificate for each in found.additional_certs]
    kept = [each for each in above if each.subject != each.issuer]
    return Credential((found.cert.certificate, *kept), found.key)


def _ask_passphrase(path: Path) -> bytes:
    import getpass

    return getpass.getpass(f"Passphrase of {path}: ").encode()


# ------------------------------------------------------------------------------ delegating


def asked_attributes(voms: Sequence[str]) -> AskedAttributes | None:
    """What `--voms` says: `astro`, `astro:/astro/Role=production` or `/astro/Role=production`, any number of them."""
    if not voms:
        return None
    names, fqans = set(), []
    for each in voms:
        name, _, fqan = ("", "", each) if each.startswith("/") else each.partition(":")
        if name:
            names.add(name)
        if fqan:
            fqans.append(fqan)
    if len(names) > 1:
        raise BadInput(f"--voms names several VOs ({', '.join(sorted(names))}); a proxy is for one of them.")
    return msgspec.convert({"vo": "".join(names), "fqans": fqans}, AskedAttributes)


def upload_proxy(
    client: Client, credential: Credential, lifetime: timedelta, *, limited: bool = False, only_this_vo: bool = False
) -> StoredProxy:
    """Delegate to the service: it makes the key, and this credential signs for it."""
    request = client.post("/api/proxies/requests", RequestProxy(), ProxyRequest)
    csr = x509.load_pem_x509_csr(request.csr.encode())
    now = datetime.now(UTC)
    leaf = sign_request(csr, credential.chain, credential.key, lifetime=lifetime, limited=limited, now=now)
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in (leaf, *credential.chain))
    body = SignedChain(chain=chain.decode(), limited=limited, only_this_vo=only_this_vo)
    return client.put(f"/api/proxies/requests/{request.request_id}", msgspec.json.encode(body), StoredProxy)


def list_proxies(client: Client) -> list[StoredProxy]:
    return client.get("/api/proxies", list[StoredProxy])


def download_proxy(
    client: Client, proxy_id: str, lifetime: timedelta, *, limited: bool, voms: AskedAttributes | None = None
) -> tuple[Credential, GivenProxy]:
    """A proxy below a stored one. The key is made here and stays here."""
    key = generate_key()
    wanted = DelegateProxy(
        csr=make_request(key).public_bytes(Encoding.PEM).decode(),
        lifetime_s=int(lifetime.total_seconds()),
        limited=limited,
        voms=voms,
    )
    given = client.post(f"/api/proxies/{proxy_id}/delegate", wanted, GivenProxy)
    return Credential(parse_chain(given.pem.encode()), key), given


def new_proxy(
    client: Client,
    lifetime: timedelta,
    *,
    limited: bool = True,
    voms: AskedAttributes | None = None,
    source: Source = Source.ANY,
) -> tuple[Credential, GivenProxy]:
    """A proxy for a token, key and all, from a stored proxy or from the service's online CA."""
    wanted = NewProxy(
        lifetime_s=int(lifetime.total_seconds()), limited=limited, voms=voms, source=source, key=KeyKind.RSA
    )
    given = client.post("/api/proxies/new", wanted, GivenProxy)
    return parse_credential(given.pem.encode(), source="The service's answer"), given
