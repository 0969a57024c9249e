"""Proxies: issued, delegated, kept in files."""

from datetime import timedelta

from spinor.x509.assertion import make_assertion, read_assertion
from spinor.x509.chain import verify_chain
from spinor.x509.proxy import make_proxy
from spinor.x509.trust import TrustStore
from tests.x509.pki import NOW, Pki

HOUR = timedelta(hours=1)


def test_a_proxy_of_a_proxy_holds(pki: Pki, trust: TrustStore) -> None:
    proxy = make_proxy(make_proxy(pki.ada, lifetime=HOUR, limited=True, now=NOW), lifetime=HOUR, now=NOW)
    found = verify_chain(proxy.chain, trust, NOW)
    assert found.subject_dn == "/DC=test/DC=grid/CN=Ada Lovelace"
    assert found.issuer_dn == "/DC=test/CN=Test Issuing CA"
    assert (found.proxy_depth, found.is_limited, found.not_after) == (2, True, NOW + HOUR)
    assert found.path[-1] == pki.root.certificate


def test_an_assertion_proves_the_key(pki: Pki, trust: TrustStore) -> None:
    proxy = make_proxy(pki.ada, lifetime=HOUR, now=NOW)
    token = make_assertion(proxy, audience="https://spinor.test", now=NOW)
    chain, jti, exp, leaf = read_assertion(token, audience="https://spinor.test", trust=trust, now=NOW)
    assert chain.leaf == leaf == proxy.leaf
    assert exp == NOW + timedelta(seconds=120)
    assert len(jti) == 32
