"""VOMS attributes without any VOMS software: each way of being refused, and vomses files."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import core
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from spinor.errors import BadInput
from spinor.x509 import voms_format
from spinor.x509.chain import verify_chain
from spinor.x509.proxy import Credential, make_proxy
from spinor.x509.refusals import VomsesUnreadable, VomsExpired, VomsMalformed, VomsRefused
from spinor.x509.trust import TrustStore
from spinor.x509.voms import (
    Attributes,
    VomsServer,
    attribute_certificates,
    make_attributes,
    parse_attribute_certificate,
    read_vomses,
    verify_attributes,
    with_attributes,
)
from tests.x509.pki import DAY, NOW, Pki, curve_key, forged_proxy, name, rsa_key, user_extensions, write_lsc

HOUR = timedelta(hours=1)
DN = "/DC=test/DC=grid/CN=voms.test"
ISSUER, ROOT = "/DC=test/CN=Test Issuing CA", "/DC=test/CN=Test Root CA"


def made(pki: Pki, *fqans: str, signer: Credential | None = None, **options: Any) -> bytes:
    return make_attributes(
        "testvo", fqans or ["/testvo"], options.pop("holder", pki.ada.leaf), signer or pki.voms_host,
        uri="voms.test:15001", lifetime=HOUR, now=options.pop("now", NOW), **options,
    )  # fmt: skip


def carried(owner: Credential, *ders: bytes) -> Credential:
    """Also what `with_attributes` would not take, as a forger does it."""
    content = voms_format._sequence(voms_format._sequence(b"".join(ders)))
    value = x509.UnrecognizedExtension(voms_format.ATTRIBUTE_CERTIFICATES, content)
    extension = x509.Extension(voms_format.ATTRIBUTE_CERTIFICATES, False, value)
    return make_proxy(owner, lifetime=6 * HOUR, extensions=[extension], now=NOW)


def found_in(
    credential: Credential, trust: TrustStore, vomsdir: Path, now: datetime = NOW, targets: Sequence[str] = ()
) -> list[Attributes]:
    return verify_attributes(verify_chain(credential.chain, trust, now), trust, vomsdir, now, targets=targets)


def code(pki: Pki, trust: TrustStore, der: bytes, owner: Credential | None = None, **options: Any) -> str:
    try:
        found_in(carried(owner or pki.ada, der), trust, pki.vomsdir, **options)
    except VomsRefused as error:
        return error.code
    return "accepted"


def changed(pki: Pki, change: Callable[[Any], None], *, digest: str = "sha256") -> bytes:
    """An attribute certificate that says something odd, and is signed properly nonetheless."""
    info = voms_format._AttributeCertificate.load(made(pki, "/testvo/Role=pilot"))["info"].copy()
    change(info)
    key = pki.voms_host.key
    to_sign = info.dump()
    signature = key.sign(to_sign, padding.PKCS1v15(), getattr(hashes, digest.upper())())  # type: ignore[call-arg,arg-type]
    return voms_format.signed(to_sign, f"{digest}_rsa", signature)


def test_attributes_are_read_and_verified(pki: Pki, trust: TrustStore) -> None:
    proxy = carried(pki.ada, made(pki, "/testvo/prod/Role=admin", "/testvo", "/testvo/prod"))
    (found,) = found_in(proxy, trust, pki.vomsdir)
    fqans = ("/testvo/prod/Role=admin", "/testvo", "/testvo/prod")
    assert found == Attributes("testvo", fqans, "voms.test:15001", NOW + HOUR)
    (each,) = attribute_certificates(proxy.leaf)
    assert each.fqans[0] == "/testvo/prod/Role=admin/Capability=NULL"
    assert each.certificates == (pki.voms_host.leaf,)
    assert attribute_certificates(pki.ada.leaf) == []
    assert found_in(pki.ada, trust, pki.vomsdir) == []


def test_attributes_stay_with_the_proxies_below(pki: Pki, trust: TrustStore) -> None:
    below = make_proxy(carried(pki.ada, made(pki)), lifetime=HOUR, limited=True, now=NOW)
    assert [each.fqans for each in found_in(below, trust, pki.vomsdir)] == [("/testvo",)]
    # A proxy may add attributes; the nearest to the leaf come first.
    second = carried(below, made(pki, "/testvo/Role=pilot"))
    assert [each.fqans for each in found_in(second, trust, pki.vomsdir)] == [("/testvo/Role=pilot",), ("/testvo",)]


def test_several_vos_in_one_proxy(pki: Pki, trust: TrustStore) -> None:
    write_lsc(pki.vomsdir, "km3net.org", pki.voms_host, pki.root)
    other = make_attributes(
        "km3net.org",
        ["/km3net.org/Role=a.b-c_d"],
        pki.ada.leaf,
        pki.voms_host,
        uri="voms.test:2",
        lifetime=HOUR,
        now=NOW,
    )
    found = found_in(carried(pki.ada, made(pki), other), trust, pki.vomsdir)
    assert [each.vo for each in found] == ["testvo", "km3net.org"]


@pytest.mark.parametrize("vo", ["compchem_user", "VO.With-Upper", "4u", "vo.access.egi.eu", "a" * 100])
def test_names_of_vos_are_kept_as_they_are(vo: str, pki: Pki) -> None:
    der = make_attributes(
        vo, [f"/{vo}/a~b/Role=x"], pki.ada.leaf, pki.voms_host, uri="VOMS.Test:15001", lifetime=HOUR, now=NOW
    )
    found = parse_attribute_certificate(der)
    assert (found.vo, found.uri) == (vo, "VOMS.Test:15001")
    assert found.fqans == (f"/{vo}/a~b/Role=x/Capability=NULL",)


def test_a_host_with_a_key_on_a_curve_may_sign(pki: Pki, trust: TrustStore) -> None:
    key = curve_key(32)
    leaf = pki.authority.sign(name("DC=test,DC=grid,CN=voms.test"), key, user_extensions(key))
    for _ in range(20):  # These signatures differ in length.
        assert code(pki, trust, made(pki, signer=Credential((leaf,), key))) == "accepted"


def test_whose_attributes_they_are(pki: Pki, trust: TrustStore) -> None:
    assert code(pki, trust, made(pki), owner=pki.alan) == "voms-holder"
    # The same name, and another certificate: the serial number counts.
    key = rsa_key(21)
    renewed = pki.authority.sign(pki.ada.leaf.subject, key, user_extensions(key))
    assert code(pki, trust, made(pki), owner=Credential((renewed,), key)) == "voms-holder"
    # Attributes for a proxy of hers are not for her.
    proxy = make_proxy(pki.ada, lifetime=HOUR, now=NOW)
    assert code(pki, trust, made(pki, holder=proxy.leaf)) == "voms-holder"


def test_who_signs_attributes(pki: Pki, trust: TrustStore) -> None:
    good = made(pki)
    assert code(pki, trust, good[:-1] + bytes([good[-1] ^ 1])) == "voms-signature"
    assert code(pki, trust, made(pki, signer=pki.alan)) == "voms-issuer"
    forged = forged_proxy(pki.voms_host)  # A proxy of the right host.
    assert code(pki, trust, made(pki, signer=Credential(forged.chain[:1], forged.key))) == "voms-issuer"
    assert code(pki, trust, made(pki, signer=forged)) == "voms-issuer"
    expired = pki.authority.sign(
        pki.voms_host.leaf.subject, rsa_key(32), user_extensions(rsa_key(32)), end=NOW + timedelta(minutes=1)
    )
    der = made(pki, signer=Credential((expired,), rsa_key(32)))
    assert code(pki, trust, der) == "accepted"
    assert code(pki, trust, der, now=NOW + timedelta(seconds=61)) == "voms-expired"


def test_when_attributes_hold(pki: Pki, trust: TrustStore) -> None:
    assert code(pki, trust, made(pki), now=NOW + HOUR) == "accepted"
    assert code(pki, trust, made(pki), now=NOW + HOUR + timedelta(seconds=1)) == "voms-expired"
    ahead = timedelta(minutes=6)  # Of which five are allowed by whoever signs, and one by whoever verifies.
    assert code(pki, trust, made(pki, now=NOW + ahead)) == "accepted"
    assert code(pki, trust, made(pki, now=NOW + ahead + timedelta(seconds=1))) == "voms-not-yet-valid"


def test_times_of_attributes_have_no_fractions(pki: Pki) -> None:
    """VOMS' library refuses them then."""
    made_now = parse_attribute_certificate(made(pki, now=NOW + timedelta(microseconds=123_456)))
    assert (made_now.not_before.microsecond, made_now.not_after) == (0, NOW + HOUR)


def test_for_which_services_attributes_are(pki: Pki, trust: TrustStore) -> None:
    der = made(pki, targets=["se.test", "ce.test"])
    assert parse_attribute_certificate(der).targets == ("se.test", "ce.test")
    assert code(pki, trust, der) == "voms-target"
    assert code(pki, trust, der, targets=["other.test"]) == "voms-target"
    assert code(pki, trust, der, targets=["other.test", "ce.test"]) == "accepted"


def said(*fqans: bytes, vo: str = "testvo://voms.test:1") -> Callable[[Any], None]:
    def change(info: Any) -> None:
        authority = [voms_format._Address("uri", vo)]
        values = voms_format._IetfAttributes([{"policy_authority": authority, "values": list(fqans)}])
        info["attributes"] = [{"type": voms_format.FQANS, "values": core.Any(values)}]

    return change


def extended(oid: str, *, critical: bool, value: bytes = b"\x05\x00", times: int = 1) -> Callable[[Any], None]:
    def change(info: Any) -> None:
        for _ in range(times):
            info["extensions"].append({"oid": oid, "critical": critical, "value": value})

    return change


def without_certificates(info: Any) -> None:
    kept = [each for each in info["extensions"] if each["oid"].native != voms_format.ISSUER_CERTIFICATES]
    info["extensions"] = kept


def with_field(name: str, value: Any) -> Callable[[Any], None]:
    def change(info: Any) -> None:
        info[name] = value

    return change


ODD: dict[str, tuple[str, Callable[[Any], None]]] = {
    "nothing odd": ("accepted", lambda info: None),
    "an FQAN of another VO": ("voms-wrong-vo", said(b"/othervo/Role=admin")),
    "an FQAN of a VO that begins alike": ("voms-wrong-vo", said(b"/testvo2")),
    "one FQAN of several of another VO": ("voms-wrong-vo", said(b"/testvo", b"/othervo")),
    "no FQAN": ("voms-malformed", said()),
    "text that is no FQAN": ("voms-malformed", said(b"testvo")),
    "an FQAN with a line break": ("voms-malformed", said(b"/testvo\n/Role=admin")),
    "an FQAN with an empty group": ("voms-malformed", said(b"/testvo//Role=admin")),
    "an FQAN that is not ASCII": ("voms-malformed", said("/testvo/é".encode())),
    "an FQAN with markup": ("voms-malformed", said(b"/testvo/<script>")),
    "an unknown VO": ("voms-unknown-vo", said(b"/othervo", vo="othervo://voms.test:1")),
    "a VO that is a path": ("voms-malformed", said(b"/testvo", vo="../testvo://voms.test:1")),
    "a VO that is a hidden path": ("voms-malformed", said(b"/..", vo="..://voms.test:1")),
    "a VO without an address": ("voms-malformed", said(b"/testvo", vo="testvo")),
    "an unknown extension": ("accepted", extended("1.2.3.4", critical=False)),
    "an unknown critical extension": ("voms-critical-extension", extended("1.2.3.4", critical=True)),
    "an extension twice": ("voms-malformed", extended("1.2.3.4", critical=False, times=2)),
    "targets of no sense": ("voms-malformed", extended("2.5.29.55", critical=True)),
    "no targets at all": ("voms-target", extended("2.5.29.55", critical=True, value=bytes.fromhex("30023000"))),
    "no certificate of its signer": ("voms-issuer", without_certificates),
    "an older version": ("voms-malformed", with_field("version", 0)),
    "no attributes": ("voms-malformed", with_field("attributes", [])),
    "two algorithms": ("voms-malformed", with_field("signature", {"algorithm": "sha512_rsa"})),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_what_the_right_server_must_not_say(case: str, pki: Pki, trust: TrustStore) -> None:
    expected, change = ODD[case]
    assert code(pki, trust, changed(pki, change)) == expected


@pytest.mark.parametrize("digest", ["sha1", "md5"])
def test_weak_signatures_are_refused(digest: str, pki: Pki, trust: TrustStore) -> None:
    der = changed(pki, with_field("signature", {"algorithm": f"{digest}_rsa"}), digest=digest)
    assert code(pki, trust, der) == "voms-weak-signature"


LSC: dict[str, tuple[str, bool]] = {
    "two lines": (f"{DN}\n{ISSUER}\n", True),
    "the whole chain": (f"{DN}\n{ISSUER}\n{ROOT}\n", True),
    "blank lines and comments": (f"# ours\n\n  {DN}  \n{ISSUER}\n\n", True),
    "the second of two chains": (f"/CN=other\n{ISSUER}\n------ NEXT CHAIN ------\n{DN}\n{ISSUER}\n", True),
    "one line": (f"{DN}\n", False),
    "another authority": (f"{DN}\n/DC=test/CN=Other CA\n", False),
    "another root": (f"{DN}\n{ISSUER}\n/CN=Other\n", False),
    "a name that begins alike": (f"{DN[:-1]}\n{ISSUER}\n", False),
    "the lines of two chains": (f"{DN}\n/CN=other\n------ NEXT CHAIN ------\n/CN=x\n{ISSUER}\n", False),
    "nothing": ("", False),
}


@pytest.mark.parametrize("case", LSC)
def test_lsc_files(case: str, pki: Pki, trust: TrustStore, tmp_path: Path) -> None:
    text, accepted = LSC[case]
    (tmp_path / "testvo").mkdir()
    (tmp_path / "testvo" / "a-damaged-one.lsc").write_bytes(b"\xff\xfe")
    (tmp_path / "testvo" / "voms.test.lsc").write_text(text)
    proxy = carried(pki.ada, made(pki))
    if accepted:
        assert found_in(proxy, trust, tmp_path)
    else:
        with pytest.raises(VomsRefused) as refused:
            found_in(proxy, trust, tmp_path)
        assert refused.value.code == ("voms-unknown-vo" if case == "nothing" else "voms-issuer")


def test_what_is_not_made(pki: Pki) -> None:
    with pytest.raises(VomsMalformed):
        with_attributes(made(pki)[:-1])
    assert with_attributes(made(pki)).value.oid == voms_format.ATTRIBUTE_CERTIFICATES
    for vo, fqans in (("testvo", []), ("../x", ["/x"]), ("testvo", ["/other"]), ("testvo", ["testvo"])):
        with pytest.raises(BadInput):
            make_attributes(vo, fqans, pki.ada.leaf, pki.voms_host, uri="voms.test:1", lifetime=HOUR, now=NOW)
    with pytest.raises(VomsExpired):
        made(pki, now=NOW + 9999 * DAY)


def test_vomses_files(tmp_path: Path) -> None:
    lines = [
        '"astro" "voms.a.test" "15001" "/DC=test/CN=voms.a.test" "astro"',
        '"astro-2" "voms.b.test" "15002" "/DC=test/CN=voms.b.test" "astro" "24"',
    ]
    (tmp_path / "b").write_text(f"# comment\n\n{lines[1]}\n")
    (tmp_path / "a").write_text(f"{lines[0]}\n")
    first = VomsServer("astro", "voms.a.test", 15001, "/DC=test/CN=voms.a.test", "astro")
    assert read_vomses(tmp_path / "a") == [first]
    assert [each.port for each in read_vomses(tmp_path)] == [15001, 15002]
    for text in ('"astro" "host" "15001"', '"a" "b" "port" "c" "d"', '"a" "b" "70000" "c" "d"', '"a', '"a" ' * 7):
        (tmp_path / "a").write_text(text)
        with pytest.raises(VomsesUnreadable, match=r"a:1 must read"):
            read_vomses(tmp_path)
    with pytest.raises(VomsesUnreadable):
        read_vomses(tmp_path / "absent")
