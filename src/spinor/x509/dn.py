"""Distinguished names the way grids write them: /DC=org/DC=grid/CN=Ada Lovelace."""

import re

from cryptography import x509
from cryptography.x509.oid import NameOID

from spinor.x509.refusals import MALFORMED, DNAmbiguous

# The short names that OpenSSL writes; anything else is written as its number.
_KEYS = {
    NameOID.COMMON_NAME: "CN",
    NameOID.SURNAME: "SN",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.COUNTRY_NAME: "C",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.STREET_ADDRESS: "street",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.TITLE: "title",
    NameOID.GIVEN_NAME: "GN",
    NameOID.INITIALS: "initials",
    NameOID.GENERATION_QUALIFIER: "generationQualifier",
    NameOID.DN_QUALIFIER: "dnQualifier",
    NameOID.PSEUDONYM: "pseudonym",
    NameOID.POSTAL_CODE: "postalCode",
    NameOID.USER_ID: "UID",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.ORGANIZATION_IDENTIFIER: "organizationIdentifier",
}
# Older tools write two of them in other ways.
_OLD_KEYS = re.compile(r"/(?:(E|Email|EMAIL|EMAILADDRESS|EmailAddress)|(USERID|UserID|userid|uid))=")
_PART_WITHIN = re.compile(r"/[A-Za-z][A-Za-z0-9]*=|/[0-9]+(?:\.[0-9]+)+=|\\x[0-9A-F]{2}")
_LONGEST_SHOWN = 300


def slash_dn(name: x509.Name) -> str:
    """The name as OpenSSL, VOMS and grid-mapfiles write it; bytes that are not ASCII become \\xHH.

    DNAmbiguous when a value looks like several parts: CN="a/CN=b" would be written like two CNs.
    """
    for attribute in name:
        if _PART_WITHIN.search(str(attribute.value)):
            raise DNAmbiguous(f"The name {shown_dn(name)} holds a part that looks like several, so it is not accepted.")
    return _written(name)


def shown_dn(name: x509.Name) -> str:
    """The name for a message: never refused, never long."""
    text = _written(name)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def canonical_dn(text: str) -> str:
    """A written name with today's keys: /Email= and /E= become /emailAddress=, /USERID= becomes /UID=."""
    return _OLD_KEYS.sub(lambda match: "/emailAddress=" if match[1] else "/UID=", text.strip())


def named(certificate: x509.Certificate, rule: str) -> str:
    """The sentence that a refusal says: which certificate, which rule."""
    try:
        return f"The certificate {shown_dn(certificate.subject)} {rule}."
    except MALFORMED:
        return f"The certificate, whose name is malformed, {rule}."


def _written(name: x509.Name) -> str:
    return "".join("/" + "+".join(map(_pair, rdn)) for rdn in name.rdns)


def _pair(attribute: x509.NameAttribute[str | bytes]) -> str:
    value = attribute.value if isinstance(attribute.value, bytes) else attribute.value.encode()
    text = "".join(chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02X}" for byte in value)
    return f"{_KEYS.get(attribute.oid, attribute.oid.dotted_string)}={text}"
