"""One real TLS server per fault: what `spinor doctor cert` finds, and what Python and OpenSSL say of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from spinor.x509.diagnosis import RULES, Bundle, Case, diagnose

from . import pki
from .doctor import doctor
from .hosts import (
    NAME,
    NOW,
    Authority,
    Host,
    Wish,
    dn,
    host_certificate,
    new_key,
    pem,
    self_signed,
    serving,
    signed_by_openssl,
)

DAY = timedelta(days=1)
CA = Authority.root()
SITE = CA.below()
OLD_CA = Authority.root("Old CA", key=rsa.generate_private_key(65537, 2048))
WEAK_KEY = rsa.generate_private_key(65537, 1024)


@dataclass
class Scene:
    """A server's certificate, what the client trusts, and what is to be found."""

    host: Host
    found: Sequence[str] = ()  # Codes; a warning has a "-" before it.
    trusted: Sequence[x509.Certificate] = (CA.certificate,)
    name: str = NAME
    options: Sequence[str] = ()
    files: dict[str, bytes] = field(default_factory=dict)  # Beside the CA: then the trust is a directory.
    python: bool = True
    openssl: bool = True

    def trust(self, folder: Path) -> Path:
        if not self.files:
            (folder / "trust.pem").write_bytes(pem(*self.trusted))
            return folder / "trust.pem"
        place = folder / "certificates"
        place.mkdir()
        stem = ""
        for each in self.trusted:
            stem = pki.write_authority(place, pki.Authority(each, CA.key))
        for suffix, content in self.files.items():
            (place / f"{stem}{suffix}").write_bytes(content)
        return place


def crl(*revoked: Host, **times: timedelta) -> dict[str, bytes]:
    return {".r0": CA.crl(*(host.certificate for host in revoked), **times).public_bytes(Encoding.PEM)}


def wish(**wanted: Any) -> Host:
    return CA.host(Wish(**wanted))


def policy(pattern: str) -> dict[str, bytes]:
    return {".signing_policy": pki.signing_policy(pki.Authority(CA.certificate, CA.key), pattern).encode()}


BAD: dict[str, Any] = {"python": False, "openssl": False}
GOOD_HOST, REVOKED_HOST = CA.host(), CA.host()
SCENES: dict[str, Callable[[Path], Scene]] = {
    "good": lambda _: Scene(GOOD_HOST),
    "good wildcard": lambda _: Scene(wish(dns=["*.example.org"])),
    "good address": lambda _: Scene(wish(dns=[], addresses=["127.0.0.1"]), name="127.0.0.1"),
    "good chain": lambda _: Scene(SITE.host(None, SITE)),
    "good in a directory with CRL and policy": lambda _: Scene(
        GOOD_HOST, files=crl(REVOKED_HOST) | policy("/DC=org/DC=grid/*"), options=["--crl", "required"]
    ),
    # Names. Both others look at the common name where there is no dNSName; Spinor's clients forbid it to Python.
    "common name only": lambda _: Scene(wish(dns=[]), ["no-names"], python=False, openssl=True),
    "name missing": lambda _: Scene(wish(dns=["se02.example.org"]), ["name-missing"], **BAD),
    "wildcard of two labels": lambda _: Scene(
        wish(dns=["*.example.org"]), ["wildcard-too-shallow"], name="a.se.example.org", **BAD
    ),
    # `openssl verify` still takes a part of a label, which RFC 9525 forbids, and Python forbids to OpenSSL.
    "wildcard in a label": lambda _: Scene(wish(dns=["se*.example.org"]), ["wildcard-misused"], python=False),
    "wildcard below one label": lambda _: Scene(wish(dns=["*.test"]), ["wildcard-misused"], name="se01.test", **BAD),
    "wildcard beside the name": lambda _: Scene(wish(dns=[NAME, "*.org"]), ["-wildcard-misused"]),
    "address as a name": lambda _: Scene(wish(dns=["127.0.0.1"]), ["ip-as-dns-name"], name="127.0.0.1", **BAD),
    "address missing": lambda _: Scene(wish(), ["address-missing"], name="127.0.0.1", **BAD),
    "port in a name": lambda _: Scene(wish(dns=[NAME, f"{NAME}:443"]), ["-name-malformed"]),
    # Time.
    "expired": lambda _: Scene(wish(begins=-300 * DAY, ends=-2 * DAY), ["expired"], **BAD),
    "not yet valid": lambda _: Scene(wish(begins=2 * DAY), ["not-yet-valid"], **BAD),
    "ends soon": lambda _: Scene(wish(ends=3 * DAY), ["-ends-soon"]),
    "lives too long": lambda _: Scene(wish(ends=800 * DAY), ["-lifetime-too-long"]),
    # What it is for. That TLS 1.3 needs digitalSignature, no client looks after.
    "client's certificate": lambda _: Scene(wish(uses=[ExtendedKeyUsageOID.CLIENT_AUTH]), ["not-for-servers"], **BAD),
    "key may not sign": lambda _: Scene(wish(signs=False), ["may-not-sign"]),
    "CA as a host": lambda _: Scene(wish(is_ca=True), ["-is-a-ca"]),
    "unknown critical extension": lambda _: Scene(
        wish(extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]),
        ["critical-extension"], **BAD,
    ),
    # Strength.
    "short RSA key": lambda _: Scene(wish(key=WEAK_KEY), ["weak-key"], **BAD),
    "SHA-1": lambda folder: Scene(_weakly_signed(folder, "sha1"), ["weak-hash"], [OLD_CA.certificate], **BAD),
    "MD5": lambda folder: Scene(_weakly_signed(folder, "md5"), ["weak-hash"], [OLD_CA.certificate], **BAD),
    # The way to the CA.
    "unknown CA": lambda _: Scene(
        GOOD_HOST, ["ca-unknown"], trusted=[Authority.root("Other CA", "elsewhere").certificate], **BAD
    ),
    "unknown root is sent": lambda _: Scene(
        CA.host(None, CA), ["ca-unknown"], trusted=[Authority.root("Other CA").certificate], **BAD
    ),
    "self-signed": lambda _: Scene(self_signed(), ["self-signed"], **BAD),
    "intermediate missing": lambda _: Scene(SITE.host(), ["chain-incomplete"], **BAD),
    "intermediate only in the directory": lambda _: Scene(
        SITE.host(), ["-chain-incomplete"], trusted=[CA.certificate, SITE.certificate]
    ),
    "disordered": lambda _: Scene(_disordered(), ["-chain-disordered"]),
    "CA first": lambda _: Scene(_reversed(), ["chain-disordered"], **BAD),
    "same name, other key": lambda _: Scene(GOOD_HOST, ["signature-wrong"], [Authority.root().certificate], **BAD),
    "issued by a host": lambda _: Scene(_issued_by_a_host(), ["issuer-not-a-ca", "issuer-may-not-sign"], **BAD),
    "too many CAs": lambda _: Scene(_too_deep(), ["path-too-long"], **BAD),
    "intermediate expired": lambda _: Scene(_expired_site(), ["issuer-expired"], **BAD),
    # Signing policies and, unless one is required, CRLs are looked at by no TLS library.
    "signing policy": lambda _: Scene(GOOD_HOST, ["signing-policy"], files=policy("/DC=org/DC=elsewhere/*")),
    "CRL missing": lambda _: Scene(
        GOOD_HOST, ["crl-missing"], files={".x": b""}, options=["--crl", "required"], openssl=False
    ),
    "CRL missing, not required": lambda _: Scene(GOOD_HOST, files={".x": b""}),
    "CRL expired": lambda _: Scene(GOOD_HOST, ["crl-expired"], files=crl(published=-9 * DAY, due=-DAY)),
    "CRL expired, required": lambda _: Scene(
        GOOD_HOST, ["crl-expired"], files=crl(published=-9 * DAY, due=-DAY), options=["--crl", "required"],
        openssl=False,
    ),
    "CRL from the future": lambda _: Scene(GOOD_HOST, ["clock-behind"], files=crl(published=DAY, due=5 * DAY)),
    "CRL of somebody else": lambda _: Scene(GOOD_HOST, ["crl-unusable"], files={".r0": _forged_crl()}),
    "revoked": lambda _: Scene(REVOKED_HOST, ["revoked"], files=crl(REVOKED_HOST)),
    "revoked, CRL required": lambda _: Scene(
        REVOKED_HOST, ["revoked"], files=crl(REVOKED_HOST), options=["--crl", "required"], openssl=False
    ),
    "revoked, CRLs ignored": lambda _: Scene(REVOKED_HOST, files=crl(REVOKED_HOST), options=["--crl", "ignore"]),
    # All at once: nothing hides anything else.
    "all wrong": lambda _: Scene(
        Authority.root("Other CA", "x").host(
            Wish(dns=["se02.example.org"], ends=-DAY, begins=-900 * DAY, key=WEAK_KEY, signs=False,
                 uses=[ExtendedKeyUsageOID.CLIENT_AUTH])
        ),
        ["name-missing", "expired", "-lifetime-too-long", "not-for-servers", "may-not-sign", "weak-key", "ca-unknown"],
        **BAD,
    ),
}  # fmt: skip


def _weakly_signed(folder: Path, digest: str) -> Host:
    return signed_by_openssl(OLD_CA, folder, digest)


def _disordered() -> Host:
    deep = CA.below("Site CA 2", 1)
    lower = deep.below("Lower CA")
    host = lower.host(None, lower, deep)
    return Host([host.chain[0], host.chain[2], host.chain[1]], host.key)


def _reversed() -> Host:
    """As somebody does who has concatenated the files in the wrong order, and serves the CA's key with it."""
    host = SITE.host()
    return Host([SITE.certificate, host.certificate], SITE.key)


def _issued_by_a_host() -> Host:
    above = CA.host(Wish(common_name="above"))
    forger = Authority(above.certificate, above.key)
    return forger.host(None, forger)


def _too_deep() -> Host:
    lower = SITE.below("Lower CA", None)
    return lower.host(None, lower, SITE)


def _expired_site() -> Host:
    site = CA.below("Old site CA", begins=-50 * DAY, ends=-DAY)
    return site.host(None, site)


def _forged_crl() -> bytes:
    return Authority(CA.certificate, new_key()).crl().public_bytes(Encoding.PEM)


@pytest.mark.parametrize("name", SCENES)
def test_the_doctor_and_the_others(name: str, tmp_path: Path) -> None:
    scene = SCENES[name](tmp_path)
    with serving(scene.host, tmp_path) as port:
        words = [f"127.0.0.1:{port}", "--name", scene.name, "--ca", str(scene.trust(tmp_path)), *scene.options]
        code, shown = doctor(*words, "--json")
    model = json.loads(shown)
    found = [("-" if each["severity"] == "warning" else "") + each["code"] for each in model["findings"]]
    assert found == list(scene.found), model["findings"]
    assert code == (1 if any(not each.startswith("-") for each in scene.found) else 0)
    said = {verdict["by"].split()[0]: verdict for verdict in model["verdicts"]}
    assert said["Python"]["accepts"] is scene.python, said
    assert said["openssl"]["accepts"] is scene.openssl, said
    # What others refuse, a rule of ours explains.
    assert not any(each["code"].startswith("refused-by") for each in model["findings"])


# These are found where a scene with a server is not needed, or not possible.
ELSEWHERE = {
    "names-unreadable", "alias-missing", "is-a-proxy", "name-constraint", "key-unreadable", "key-foreign",
    "key-exposed", "refused-by-openssl", "refused-by-python",
}  # fmt: skip


def test_every_rule_is_tried(tmp_path: Path) -> None:
    tried = {code.removeprefix("-") for make in SCENES.values() for code in make(tmp_path).found}
    assert tried | ELSEWHERE == set(RULES)


def test_every_rule_has_a_source_and_a_remedy() -> None:
    for code, rule in RULES.items():
        assert rule.remedy.endswith("."), code
        assert any(word in rule.source for word in ("section", "IGTF", "signing_policy", "OpenSSL")), code


def test_every_rule_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "check-a-certificate.md").read_text()
    assert [code for code in RULES if f"`{code}`" not in page] == []


def case(host: Host, **changes: Any) -> Case:
    return Case(chain=host.chain, now=NOW, **changes)


def codes(host: Host, **changes: Any) -> list[str]:
    return [each.code for each in diagnose(case(host, **changes))]


def test_an_alias_is_told_by_the_canonical_name() -> None:
    host = wish(dns=["node7.example.org"])
    assert codes(host, name="srm.example.org", known_as=["lb.example.org", "node7.example.org"]) == ["alias-missing"]
    [found] = diagnose(case(host, name="srm.example.org", known_as=["node7.example.org"]))
    assert "srm.example.org is an alias of node7.example.org" in found.sentence
    assert codes(host, name="srm.example.org", known_as=["elsewhere.example.org"]) == ["name-missing"]


def test_without_a_name_only_the_certificate_is_judged() -> None:
    assert codes(wish(dns=["a.example.org"])) == []
    assert codes(wish(dns=[])) == ["no-names"]
    garbage = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x03\x82\x01\xff")
    assert codes(wish(dns=[], extensions=[(garbage, False)])) == ["names-unreadable"]
    assert codes(wish(dns=["*.org", "10.0.0.1"])) == ["wildcard-misused", "ip-as-dns-name"]


def test_a_proxy_is_no_host() -> None:
    proxy_info = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14"), b"\x30\x00")
    assert codes(wish(extensions=[(proxy_info, True)])) == ["is-a-proxy"]


def test_a_circle_of_cas_has_an_end() -> None:
    one, two = new_key(), new_key()
    first = host_certificate(Wish(common_name="One", is_ca=True, key=one), dn("Two"), two)
    second = host_certificate(Wish(common_name="Two", is_ca=True, key=two), dn("One"), one)
    host = host_certificate(Wish(), first.subject, one)
    found = diagnose(Case(chain=[host, first, second], now=NOW, trust=Bundle([CA.certificate])))
    assert found[0].code == "path-too-long"


def test_name_constraints_of_a_ca() -> None:
    limits = x509.NameConstraints(permitted_subtrees=[x509.DNSName("example.net")], excluded_subtrees=None)
    site = wish(common_name="Narrow CA", is_ca=True, extensions=[(limits, True)])
    assert isinstance(site.key, ec.EllipticCurvePrivateKey)
    narrow = Authority(site.certificate, site.key)
    assert codes(narrow.host(None, narrow), trust=Bundle([CA.certificate])) == ["name-constraint"]
    inside = narrow.host(Wish(dns=["se.example.net"]), narrow)
    assert codes(inside, trust=Bundle([CA.certificate])) == []


def test_clocks_are_compared() -> None:
    [found] = diagnose(case(wish(begins=timedelta(hours=3))))
    assert "3 h 00 min earlier" in found.sentence
    assert "clock is behind" in found.remedy
