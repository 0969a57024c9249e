"""The online CA at work: certificates for people, their revocation, and what a service needs to trust it."""

import asyncio
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from spinor.db import Database, Tx
from spinor.errors import BadInput, NotFound
from spinor.identity import store as identity_store
from spinor.identity.delegation import rules, store
from spinor.identity.delegation.certificates import Call, Certificates
from spinor.identity.delegation.models import CertificateRequest, GivenCertificate, KeyKind
from spinor.identity.delegation.online_ca import CRL_RENEWED_AFTER, OnlineCA, OnlineCAElsewhere, proposed_name
from spinor.identity.delegation.service.giving import RequestMalformed, check_rate, new_key, request_of
from spinor.identity.models import Issued, IssuedKind
from spinor.identity.service.members import member_of
from spinor.x509.chain import key_weakness
from spinor.x509.dn import slash_dn
from spinor.x509.proxy import Credential, PublicKey


class OnlineCAOff(NotFound):
    """This service issues no certificates."""

    code = "online-ca-off"


class LifetimeTooLong(BadInput):
    """The online CA issues no certificate for that long."""

    code = "lifetime-too-long"


class Certified(NamedTuple):
    certificate: x509.Certificate
    ca: OnlineCA


async def is_enabled(tx: Tx) -> bool:
    return (await store.find_online_ca(tx)).is_enabled


async def issue_certificate(call: Call, wanted: CertificateRequest) -> GivenCertificate:
    """A certificate for the key of a request. Whoever holds it makes full proxies, so a group needs the property."""
    public_key = _key_of(wanted.csr)
    made = await _certify(call, public_key, timedelta(seconds=wanted.lifetime_s), full=True)
    certificate = made.certificate
    return GivenCertificate(
        pem=(certificate.public_bytes(Encoding.PEM) + made.ca.pem()).decode(),
        subject=slash_dn(certificate.subject),
        issuer=made.ca.dn,
        serial=f"{certificate.serial_number:x}",
        expires_at=certificate.not_valid_after_utc,
    )


async def own_credential(call: Call, lifetime: timedelta) -> Credential:
    """A certificate whose key is made here and forgotten once a proxy was signed with it."""
    key = await new_key(KeyKind.RSA)
    public_key = key.public_key()
    made = await _certify(call, public_key, lifetime, full=False)
    return Credential((made.certificate,), key)


async def _certify(call: Call, public_key: PublicKey, lifetime: timedelta, *, full: bool) -> Certified:
    caller, now = call.caller, call.parts.clock()
    async with call.db.transaction() as tx:
        row = await store.find_online_ca(tx)
    if not row.is_enabled:
        raise OnlineCAOff("This service's online CA is off (`online_ca` in the operations data).")
    ca = await known_ca(call.db, call.parts)
    async with call.db.transaction() as tx:
        if lifetime > timedelta(seconds=row.longest_s):
            raise LifetimeTooLong(f"The online CA issues certificates for {row.longest_s} s at most.")
        await check_rate(tx, caller.user_id)
        member = await member_of(tx, caller.vo_id, caller.user_id, caller.group_id)
        if full:
            rules.is_limited(member.properties, caller.group, asked=False, stored=False)
        name = await store.common_name(tx, caller.user_id, proposed_name(member.full_name, member.user))
        certificate = ca.issue(public_key, name, lifetime, now)
        serial = f"{certificate.serial_number:x}"
        await store.insert_certificate(tx, caller, serial, certificate.not_valid_after_utc)
        issued = Issued(
            kind=IssuedKind.CERTIFICATE,
            vo_id=caller.vo_id,
            user_id=caller.user_id,
            session_id=caller.session_id,
            name=serial,
            expires_at=certificate.not_valid_after_utc,
            address=call.origin.address,
            facts={"dn": slash_dn(certificate.subject), "group": caller.group, "for_a_proxy": not full},
        )
        await identity_store.insert_issued(tx, issued)
    return Certified(certificate, ca)


def _key_of(pem: str) -> PublicKey:
    csr = request_of(pem)
    try:
        public_key = csr.public_key()
        if not csr.is_signature_valid:
            raise RequestMalformed("The certificate request is not signed by the key that it carries.")
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise RequestMalformed("The certificate request is malformed.") from None
    if weakness := key_weakness(public_key):
        raise RequestMalformed(f"The certificate request has {weakness}.")
    assert isinstance(public_key, PublicKey)
    return public_key


async def known_ca(db: Database, parts: Certificates) -> OnlineCA:
    """The online CA, the same one on every server. It is made once; OnlineCAElsewhere where its files are not."""
    async with db.transaction() as tx:
        row = await store.find_online_ca(tx)
        if row.fingerprint is None:
            row = await store.lock_online_ca(tx)
        is_first = row.fingerprint is None
        ca = await asyncio.to_thread(parts.online_ca, make=is_first)
        if ca is None or row.fingerprint not in (None, ca.fingerprint):
            raise OnlineCAElsewhere(
                "The online CA that this service has used before is not on this machine; copy the directory "
                "x509/online-ca from the data directory of the machine that made it."
            )
        if is_first:
            await store.keep_fingerprint(tx, ca.fingerprint)
    return ca


async def published_ca(db: Database, parts: Certificates) -> OnlineCA:
    """The online CA for whoever wants to trust it; OnlineCAOff when there is none."""
    async with db.transaction() as tx:
        row = await store.find_online_ca(tx)
    if not (row.is_enabled or row.signs_attributes or row.fingerprint):
        raise OnlineCAOff
    return await known_ca(db, parts)


async def crl(db: Database, parts: Certificates) -> bytes:
    """The present revocation list, in DER."""
    ca = await published_ca(db, parts)
    async with db.transaction() as tx:
        found = (await store.find_online_ca(tx)).crl
    return found or await _sign_crl(db, ca, parts.clock()) or b""


async def renew_crl(db: Database, parts: Certificates) -> bool:
    """Revoke what suspended people hold, and sign the list again when it has changed or is a day old."""
    async with db.transaction() as tx:
        row = await store.find_online_ca(tx)
    if row.fingerprint is None:
        return False
    return await _sign_crl(db, await known_ca(db, parts), parts.clock()) is not None


async def _sign_crl(db: Database, ca: OnlineCA, now: datetime) -> bytes | None:
    """The list when it had to be signed; None when the one that is there is as good."""
    async with db.transaction() as tx:
        row = await store.lock_online_ca(tx)
        await store.revoke_of_suspended(tx)
        revoked = await store.list_revoked(tx)
        signed_at = row.crl_signed_at
        if row.crl and signed_at is not None:
            changed_at = max((each.revoked_at for each in revoked), default=signed_at)
            if changed_at <= signed_at and now - signed_at < CRL_RENEWED_AFTER:
                return None
        number = row.crl_number + 1
        made = ca.crl([(int(each.serial, 16), each.revoked_at) for each in revoked], number, now)
        await store.keep_crl(tx, made, number)
    return made
