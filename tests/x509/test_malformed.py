"""Whatever bytes arrive, the answer is a value or a refusal of ours, never another exception."""

import contextlib
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinor.errors import SpinorError
from spinor.x509.chain import verify_chain
from spinor.x509.proxy import Credential, make_request, parse_chain, parse_credential, sign_request
from spinor.x509.proxy_rules import PROXY_CERT_INFO, proxy_info
from spinor.x509.refusals import CredentialRefused, ProxyRefused, VomsRefused
from spinor.x509.trust import TrustStore
from spinor.x509.voms import (
    attribute_certificates,
    make_attributes,
    parse_attribute_certificate,
    verify_attributes,
    with_attributes,
)
from spinor.x509.voms_format import parse_extension, wrapped
from tests.x509.pki import NOW, Pki, forged_proxy

# Of these two faults the library warns, and goes on; the first of them is then refused.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive"),
    pytest.mark.filterwarnings("ignore:Attribute's length must be"),
]
HOUR = timedelta(hours=1)
QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Damage:
    """Bytes, and ways to damage them that keep most of them right: so the damage gets deep."""

    def __init__(self, good: bytes) -> None:
        self.good = good

    def strategy(self) -> st.SearchStrategy[bytes]:
        positions = st.integers(0, len(self.good) - 1)
        changes = st.lists(st.tuples(positions, st.integers(0, 255)), min_size=1, max_size=4)
        return st.one_of(
            st.binary(max_size=200),
            positions.map(lambda end: self.good[:end]),
            changes.map(self._changed),
            st.tuples(positions, positions, st.binary(max_size=8)).map(
                lambda cut: self.good[: min(cut[:2])] + cut[2] + self.good[max(cut[:2]) :]
            ),
        )

    def _changed(self, changes: list[tuple[int, int]]) -> bytes:
        damaged = bytearray(self.good)
        for position, value in changes:
            damaged[position] = value
        return bytes(damaged)


@pytest.fixture(scope="module")
def der(pki: Pki) -> bytes:
    return make_attributes(
        "testvo", ["/testvo/Role=pilot", "/testvo"], pki.ada.leaf, pki.voms_host,
        uri="voms.test:15001", lifetime=HOUR, now=NOW, targets=["se.test"],
    )  # fmt: skip


@QUICK
@given(data=st.data())
def test_attribute_certificates(der: bytes, data: st.DataObject) -> None:
    damaged = data.draw(Damage(der).strategy())
    for parse, content in ((parse_attribute_certificate, damaged), (parse_extension, damaged)):
        with contextlib.suppress(VomsRefused):
            parse(content)


@QUICK
@given(data=st.data())
def test_extensions_with_attribute_certificates(pki: Pki, der: bytes, data: st.DataObject) -> None:
    """In a proxy, whose owner may write what she likes there: it is verified as a whole, or refused."""
    content = data.draw(Damage(wrapped(der)).strategy())
    value = x509.UnrecognizedExtension(with_attributes(der).oid, content)
    proxy = make_proxy_once(pki, value)
    trust = TrustStore(pki.certificates)
    chain = verify_chain([proxy, *pki.ada.chain], trust, NOW)
    try:
        found = verify_attributes(chain, trust, pki.vomsdir, NOW, targets=["se.test"])
    except VomsRefused:
        return
    assert content == wrapped(der) or [each.fqans for each in found] == [("/testvo/Role=pilot", "/testvo")]


def make_proxy_once(pki: Pki, value: x509.UnrecognizedExtension) -> x509.Certificate:
    return forged_proxy(pki.ada, extensions=[(value, False)]).leaf


@QUICK
@given(content=Damage(bytes.fromhex("300f020102300a06082b06010505071501")).strategy())
def test_proxy_certificate_information(pki: Pki, content: bytes) -> None:
    proxy = forged_proxy(pki.ada, info=x509.UnrecognizedExtension(PROXY_CERT_INFO, content)).leaf
    try:
        info = proxy_info(proxy)
    except ProxyRefused:
        return
    assert info is not None


@pytest.fixture(scope="module")
def proxy(pki: Pki) -> Credential:
    return forged_proxy(pki.ada)


@QUICK
@given(data=st.data(), link=st.integers(0, 2))
def test_certificates_in_a_chain(pki: Pki, proxy: Credential, data: st.DataObject, link: int) -> None:
    """A damaged certificate never holds, wherever in the chain it is."""
    chain = list(proxy.chain)
    good = chain[link].public_bytes(Encoding.DER)
    damaged = data.draw(Damage(good).strategy())
    try:
        chain[link] = x509.load_der_x509_certificate(damaged)
    except (ValueError, x509.InvalidVersion):
        return
    trust = TrustStore(pki.certificates)
    try:
        verify_chain(chain, trust, NOW)
        attribute_certificates(chain[link])
    except CredentialRefused:
        return
    # An authority may be damaged, since the directory has it too; a byte changed into itself is no damage.
    assert damaged == good or link == 2


@QUICK
@given(data=st.data())
def test_proxy_files(pki: Pki, data: st.DataObject) -> None:
    content = data.draw(Damage(pki.ada.pem()).strategy())
    for parse in (parse_credential, parse_chain):
        try:
            parse(content)
        except SpinorError as error:
            assert b"PRIVATE" not in error.message.encode()


@QUICK
@given(data=st.data())
def test_requests(pki: Pki, data: st.DataObject) -> None:
    damaged = data.draw(Damage(make_request(pki.alan.key).public_bytes(Encoding.DER)).strategy())
    try:
        csr = x509.load_der_x509_csr(damaged)
    except (ValueError, x509.InvalidVersion):
        return
    try:
        leaf = sign_request(csr, pki.ada.chain, pki.ada.key, lifetime=HOUR, now=NOW)
    except CredentialRefused:
        return
    assert leaf.public_key() == pki.alan.key.public_key()
