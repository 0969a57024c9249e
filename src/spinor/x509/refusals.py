"""One error per rule that a certificate, proxy, attribute certificate or assertion can break.

The code is stable; the message names the certificate and the rule, as `named` writes it.
"""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from spinor.errors import SpinorError

# What the cryptography library raises, often late, when it reads what is no certificate, list, request or key.
MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class CredentialRefused(SpinorError):
    """The certificate, proxy or assertion does not hold."""

    status, code = 401, "credential-refused"


class TrustUnreadable(SpinorError):
    """The directory of certificate authorities cannot be read."""

    code = "trust-unreadable"


class DNAmbiguous(CredentialRefused):
    """A name holds text that looks like several parts of a name, so its written form could stand for another."""

    code = "dn-ambiguous"


# ------------------------------------------------------------------------------------- RFC 5280


class ChainRefused(CredentialRefused):
    """The certificate chain does not hold."""

    code = "chain-refused"


class ChainEmpty(ChainRefused):
    """There is no certificate."""

    code = "chain-empty"


class ChainTooLong(ChainRefused):
    """The chain has more certificates than any chain needs."""

    code = "chain-too-long"


class ChainMalformed(ChainRefused):
    """A certificate is not well formed."""

    code = "chain-malformed"


class ChainIncomplete(ChainRefused):
    """The issuer of a proxy is not in the chain."""

    code = "chain-incomplete"


class ChainUnknownCA(ChainRefused):
    """The certificate authority is not in the directory of trusted ones."""

    code = "chain-unknown-ca"


class ChainSignature(ChainRefused):
    """A certificate was not signed by the issuer that it names."""

    code = "chain-signature"


class ChainExpired(ChainRefused):
    """A certificate has expired."""

    code = "chain-expired"


class ChainNotYetValid(ChainRefused):
    """A certificate is not valid yet."""

    code = "chain-not-yet-valid"


class ChainWeakKey(ChainRefused):
    """A key is too short; RSA needs 2048 bits, elliptic curves need 256."""

    code = "chain-weak-key"


class ChainWeakSignature(ChainRefused):
    """A signature uses a hash that can be forged (MD5, SHA-1)."""

    code = "chain-weak-signature"


class ChainNotCA(ChainRefused):
    """A certificate was issued by one that is no certificate authority."""

    code = "chain-not-a-ca"


class ChainLeafIsCA(ChainRefused):
    """A certificate authority's own certificate cannot be used like a person's or a host's."""

    code = "chain-leaf-is-ca"


class ChainPathLength(ChainRefused):
    """A certificate authority may not have so many authorities below it."""

    code = "chain-path-length"


class ChainKeyUsage(ChainRefused):
    """A key was used for what its certificate does not allow."""

    code = "chain-key-usage"


class ChainPurpose(ChainRefused):
    """The extended key usage of a certificate does not allow this use."""

    code = "chain-purpose"


class ChainCriticalExtension(ChainRefused):
    """A certificate has a critical extension that is not understood here."""

    code = "chain-critical-extension"


class ChainNameConstraint(ChainRefused):
    """A certificate's name lies outside of what its certificate authority may name."""

    code = "chain-name-constraint"


class ChainPolicy(ChainRefused):
    """The signing policy of the certificate authority does not cover this subject."""

    code = "chain-signing-policy"


class ChainRevoked(ChainRefused):
    """A certificate was revoked."""

    code = "chain-revoked"


class ChainCRLMissing(ChainRefused):
    """A certificate authority has no revocation list here, and one is required."""

    code = "chain-crl-missing"


class ChainCRLExpired(ChainRefused):
    """The revocation list of a certificate authority has expired; run fetch-crl."""

    code = "chain-crl-expired"


class ChainCRLNotYetValid(ChainRefused):
    """The revocation list of a certificate authority is from the future; look at this machine's clock."""

    code = "chain-crl-not-yet-valid"


class ChainCRLUnusable(ChainRefused):
    """The revocation list of a certificate authority cannot be read, or not relied upon."""

    code = "chain-crl-unusable"


# ------------------------------------------------------------------------------------- RFC 3820


class ProxyRefused(CredentialRefused):
    """A proxy certificate breaks a rule of RFC 3820."""

    code = "proxy-refused"


class ProxyMalformed(ProxyRefused):
    """The ProxyCertInfo extension is not well formed."""

    code = "proxy-malformed"


class ProxyLegacy(ProxyRefused):
    """The proxy is of a kind older than RFC 3820; make one with `-rfc`."""

    code = "proxy-legacy"


class ProxyNotCritical(ProxyRefused):
    """The ProxyCertInfo extension is not critical."""

    code = "proxy-not-critical"


class ProxyUnknownPolicy(ProxyRefused):
    """The proxy's policy language is neither inherit-all nor limited."""

    code = "proxy-unknown-policy"


class ProxyLimitDropped(ProxyRefused):
    """A full proxy stands below a limited one."""

    code = "proxy-limit-dropped"


class ProxySubject(ProxyRefused):
    """A proxy's subject is not its issuer's with exactly one CN more."""

    code = "proxy-subject"


class ProxyAlternativeName(ProxyRefused):
    """A proxy must not have alternative names."""

    code = "proxy-alternative-name"


class ProxyIsCA(ProxyRefused):
    """A proxy must not be a certificate authority."""

    code = "proxy-is-ca"


class ProxyIssuedByCA(ProxyRefused):
    """A proxy must be issued by a person's or host's certificate, or another proxy, not by an authority."""

    code = "proxy-issued-by-ca"


class ProxyKeyUsage(ProxyRefused):
    """A proxy's or its issuer's key usage does not suit a proxy."""

    code = "proxy-key-usage"


class ProxyOutlivesIssuer(ProxyRefused):
    """A proxy is valid for longer than its issuer."""

    code = "proxy-outlives-issuer"


class ProxyPathLength(ProxyRefused):
    """A proxy's path length does not allow another proxy below it."""

    code = "proxy-path-length"


class CredentialUnreadable(CredentialRefused):
    """A file with a certificate and key cannot be read."""

    code = "credential-unreadable"


class CredentialMismatch(CredentialRefused):
    """The key belongs to another certificate."""

    code = "credential-key-mismatch"


class RequestRefused(CredentialRefused):
    """The certificate request is not signed by the key that it carries, or this key cannot be used."""

    code = "proxy-request-refused"


# ------------------------------------------------------------------------------------- VOMS


class VomsRefused(CredentialRefused):
    """A VOMS attribute certificate does not hold."""

    code = "voms-refused"


class VomsMalformed(VomsRefused):
    """The VOMS attribute certificate is not well formed."""

    code = "voms-malformed"


class VomsUnknownVO(VomsRefused):
    """No .lsc file says which VOMS server speaks for this VO."""

    code = "voms-unknown-vo"


class VomsIssuer(VomsRefused):
    """The VOMS attribute certificate is signed by a host that no .lsc file of the VO names."""

    code = "voms-issuer"


class VomsSignature(VomsRefused):
    """The signature of the VOMS attribute certificate is wrong."""

    code = "voms-signature"


class VomsWeakSignature(VomsRefused):
    """The VOMS attribute certificate is signed with a hash that can be forged (MD5, SHA-1)."""

    code = "voms-weak-signature"


class VomsHolder(VomsRefused):
    """The VOMS attribute certificate was issued for another certificate."""

    code = "voms-holder"


class VomsExpired(VomsRefused):
    """The VOMS attributes have expired."""

    code = "voms-expired"


class VomsNotYetValid(VomsRefused):
    """The VOMS attributes are not valid yet."""

    code = "voms-not-yet-valid"


class VomsTarget(VomsRefused):
    """The VOMS attributes are meant for another service."""

    code = "voms-target"


class VomsVO(VomsRefused):
    """An attribute lies outside of the VO whose server signed it."""

    code = "voms-wrong-vo"


class VomsCriticalExtension(VomsRefused):
    """The VOMS attribute certificate has a critical extension that is not understood here."""

    code = "voms-critical-extension"


class VomsesUnreadable(SpinorError):
    """A vomses file cannot be read."""

    code = "vomses-unreadable"


class VomsServerRefused(SpinorError):
    """The VOMS server did not give the attributes."""

    status, code = 403, "voms-server-refused"


class VomsServerUnreachable(SpinorError):
    """The VOMS server does not answer, or is not the one that was asked for."""

    status, code, retry = 503, "voms-server-unreachable", True
