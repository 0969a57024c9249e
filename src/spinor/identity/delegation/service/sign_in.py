"""From an assertion that a grid certificate's key has signed to the user that it proves."""

import asyncio
from collections.abc import Sequence

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from spinor.access import Caller
from spinor.db import Database, Tx
from spinor.errors import BadInput, Conflict, SpinorError
from spinor.identity import service as identity
from spinor.identity.delegation import rules, store
from spinor.identity.delegation.certificates import Certificates
from spinor.identity.delegation.models import LinkedCertificate, Voms
from spinor.identity.models import Proven, Wish
from spinor.x509.assertion import Assertion, AssertionAudience, read_assertion
from spinor.x509.chain import VerifiedChain
from spinor.x509.refusals import CredentialRefused, VomsExpired, VomsUnknownVO
from spinor.x509.voms import Attributes, attribute_certificates, verify_attributes

CERTIFICATE = "certificate"


class UnknownCertificate(SpinorError):
    """This certificate is not linked to any user of this service."""

    status, code = 400, "unknown-certificate"
    oauth_error = "invalid_grant"


class AssertionReplayed(SpinorError):
    """This assertion was used before; each is good for one sign-in."""

    status, code = 400, "assertion-replayed"
    oauth_error = "invalid_grant"


class AssertionRejected(BadInput):
    """The assertion does not hold, so it links nothing."""

    code = "assertion-rejected"


class CertificateTaken(Conflict):
    """This certificate is linked to another user; ask the administrators of the service."""

    code = "certificate-taken"


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """Who has proven to be whom, and which role the attributes of the proxy choose."""

    proven: Proven
    wish: Wish


async def proven_by_assertion(
    db: Database, parts: Certificates, text: str, audiences: Sequence[str], wish: Wish
) -> SignedIn:
    """The user whose certificate has signed this for one of the audiences.

    Spends the assertion. Groups that a VOMS server has signed for are granted. A session that comes of it ends with the
    proxy, and a limited proxy gives no more than data access.
    """
    assertion = await _read(parts, text, audiences)
    chain = assertion.chain
    async with db.transaction() as tx:
        # Committed by itself: whatever is wrong with the rest, the assertion was shown.
        await _spend(tx, assertion)
    attributes = await asyncio.to_thread(_attributes, parts, chain)
    async with db.transaction() as tx:
        proven = await identity.proven_by_identity(tx, chain.issuer_dn, chain.subject_dn, CERTIFICATE)
        if proven is None:
            raise UnknownCertificate(
                f"The certificate {chain.subject_dn} of {chain.issuer_dn} is not linked to a user here. "
                "Sign in another way and run `spinor proxy link`, or ask the administrators of your VO to add this "
                "issuer and subject to your identities in the operations data.",
                subject=chain.subject_dn,
                issuer=chain.issuer_dn,
            )
        found = await _grant(tx, proven.user, attributes)
    if not wish.group:
        vo, group = rules.first_group(found, wish.vo)
        wish = Wish(vo=vo, group=group, scope=wish.scope)
    proven = Proven(
        user=proven.user,
        signed_in_by=CERTIFICATE,
        ends_by=chain.not_after,
        at_most=rules.SCOPES_OF_LIMITED if chain.is_limited else None,
    )
    return SignedIn(proven=proven, wish=wish)


async def link_certificate(
    db: Database, parts: Certificates, caller: Caller, text: str, audience: str
) -> LinkedCertificate:
    """Let the caller sign in with the certificate whose key has signed this. CertificateTaken when it is another's."""
    try:
        assertion = await _read(parts, text, [audience])
    except CredentialRefused as error:
        # Whoever sends it is signed in, so it is the body that is refused and not the caller.
        raise AssertionRejected(error.message, rule=error.code) from None
    chain = assertion.chain
    if chain.proxy_depth:
        # A stolen proxy would otherwise tie its owner, and their groups, to the thief's account beyond its own end.
        raise AssertionRejected("A proxy links no certificate; sign with the certificate's own key.")
    async with db.transaction() as tx:
        await _spend(tx, assertion)
        if not await store.link_identity(tx, chain.issuer_dn, chain.subject_dn, caller.user_id):
            raise CertificateTaken
    return LinkedCertificate(subject=chain.subject_dn, issuer=chain.issuer_dn, user=caller.user)


async def _read(parts: Certificates, text: str, audiences: Sequence[str]) -> Assertion:
    def read() -> Assertion:
        refused: AssertionAudience | None = None
        for audience in audiences:
            try:
                return read_assertion(text, audience=audience, trust=parts.trust, now=parts.clock(), crl=parts.crl)
            except AssertionAudience as error:
                refused = refused or error
        assert refused is not None
        raise refused

    return await asyncio.to_thread(read)


async def _spend(tx: Tx, assertion: Assertion) -> None:
    what = b"x509 assertion\0" + assertion.leaf.fingerprint(hashes.SHA256()) + assertion.jti.encode()
    if not await identity.spend(tx, what, assertion.exp):
        raise AssertionReplayed


def _attributes(parts: Certificates, chain: VerifiedChain) -> list[Attributes]:
    """What VOMS servers have signed for this person. Of VOs that are unknown here, and in the past, nothing counts."""
    proxies: Sequence[x509.Certificate] = chain.path[: chain.proxy_depth]
    if not any(attribute_certificates(proxy) for proxy in proxies):
        return []
    try:
        return verify_attributes(chain, parts.trust, parts.vomsdir, parts.clock(), targets=(parts.host,), crl=parts.crl)
    except (VomsUnknownVO, VomsExpired):
        return []


async def _grant(tx: Tx, user: str, attributes: Sequence[Attributes]) -> list[tuple[str, list[str]]]:
    """The groups that the attributes stand for, by VO in the attributes' order; the user is in them from now on."""
    if not attributes:
        return []
    known: list[Voms] = await store.list_voms_by_name(tx, [each.vo for each in attributes])
    found = [
        (voms.vo, rules.groups_of(each.fqans, voms)) for each in attributes for voms in known if voms.name == each.vo
    ]
    await store.grant_voms_memberships(tx, user, [(vo, group) for vo, groups in found for group in groups])
    return found
