"""VOMS attributes for a proxy that is given: from the VO's server, or signed by our own attribute authority."""

import asyncio
from datetime import timedelta

from cryptography import x509

from spinor.identity.delegation import rules
from spinor.identity.delegation.certificates import Call, Certificates
from spinor.identity.delegation.models import AskedAttributes, Voms
from spinor.identity.delegation.online_ca import OnlineCA
from spinor.identity.delegation.service.certifying import known_ca
from spinor.x509.proxy import Credential
from spinor.x509.proxy_rules import proxy_info
from spinor.x509.refusals import VomsServerUnreachable
from spinor.x509.voms import (
    VomsServer,
    make_attributes,
    parse_attribute_certificate,
    request_attributes,
    with_attributes,
)

Attributes = tuple[list[x509.Extension[x509.ExtensionType]], list[str]]  # The extensions of the proxy, and the FQANs.


async def attributes_for(
    call: Call, asked: AskedAttributes | None, voms: Voms | None, credential: Credential, lifetime: timedelta
) -> Attributes:
    """What is to be put into the proxy. Asks the VO's server over the network, so never inside of a transaction."""
    if asked is None:
        return [], []
    fqans = rules.wanted_fqans(asked, call.caller.vo, call.caller.group, voms)
    assert voms is not None
    if voms.servers:
        der = await asyncio.to_thread(_from_servers, call.parts, voms, credential, fqans, lifetime)
    else:
        ca = await known_ca(call.db, call.parts)
        der = await asyncio.to_thread(_own, ca, call.parts, voms, credential, (fqans, lifetime))
    given = [rules.plain_fqan(fqan) for fqan in parse_attribute_certificate(der).fqans]
    # Plain groups are always in it, whatever was asked for. A role must have been.
    for fqan in given:
        if "/Role=" in fqan and fqan not in fqans:
            raise rules.AttributesDenied(f"The VOMS server gives {fqan} although it was not asked for.")
    return [with_attributes(der)], given


def _from_servers(
    parts: Certificates, voms: Voms, credential: Credential, fqans: list[str], lifetime: timedelta
) -> bytes:
    refused: VomsServerUnreachable | None = None
    for each in voms.servers:
        server = VomsServer(voms.name, each.host, each.port, each.subject, voms.name)
        try:
            return request_attributes(server, credential, fqans, lifetime, parts.trust)
        except VomsServerUnreachable as error:
            refused = error
    assert refused is not None
    raise refused


def _own(
    ca: OnlineCA, parts: Certificates, voms: Voms, credential: Credential, wanted: tuple[list[str], timedelta]
) -> bytes:
    fqans, lifetime = wanted
    now = parts.clock().replace(microsecond=0)  # VOMS' library refuses attributes whose times have fractions.
    signer = ca.attribute_authority(parts.host, now)
    holder = next(each for each in credential.chain if proxy_info(each) is None)
    return make_attributes(voms.name, fqans, holder, signer, uri=parts.uri, lifetime=lifetime, now=now)
