"""One real TLS server per fault: what `spinor doctor cert` finds, and what Python and OpenSSL say of it."""

import json
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from spinor.cli import report, root
from spinor.errors import SpinorError
from spinor.x509.diagnosis import RULES, Bundle, Case, cli, diagnose, looking
from spinor.x509.diagnosis import report as reporting

from . import pki
from .hosts import NAME, NOW, Authority, Host, Wish, key_pem, new_key, pem, self_signed, serving, signed_by_openssl

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


def doctor(*words: str) -> tuple[int, str]:
    """As the root command runs it, with its exit codes."""
    done: Result = CliRunner().invoke(root, ["doctor", "cert", *words])
    if isinstance(done.exception, SpinorError):
        return report(done.exception), done.exception.message
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


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


def test_every_address_behind_an_alias_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts behind one name, of which only one has the alias in its certificate; the resolver is the test's."""
    good, bad = wish(dns=["srm.example.org"]), wish(dns=["node2.example.org"])
    (tmp_path / "ca.pem").write_bytes(pem(CA.certificate))
    with serving(good, tmp_path) as port, serving(bad, tmp_path, address="127.0.0.2", port=port):
        monkeypatch.setattr(reporting, "addresses", lambda *_: ["127.0.0.1", "127.0.0.2", "127.0.0.3"])
        monkeypatch.setattr(reporting, "other_names", lambda _: ["node2.example.org"])
        code, shown = doctor(f"srm.example.org:{port}", "--alias", "--ca", str(tmp_path / "ca.pem"), "--json")
        one_only = doctor(f"srm.example.org:{port}", "--ca", str(tmp_path / "ca.pem"), "--json")
    first, second = map(json.loads, shown.splitlines())
    assert code == 1
    assert first["findings"] == []
    assert [each["code"] for each in second["findings"]] == ["alias-missing"]
    assert "127.0.0.2" in second["source"]
    assert one_only[0] == 0


def test_without_a_name_only_the_certificate_is_judged() -> None:
    assert codes(wish(dns=["a.example.org"])) == []
    assert codes(wish(dns=[])) == ["no-names"]
    garbage = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x03\x82\x01\xff")
    assert codes(wish(dns=[], extensions=[(garbage, False)])) == ["names-unreadable"]
    assert codes(wish(dns=["*.org", "10.0.0.1"])) == ["wildcard-misused", "ip-as-dns-name"]


def test_a_proxy_is_no_host() -> None:
    proxy_info = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14"), b"\x30\x00")
    assert codes(wish(extensions=[(proxy_info, True)])) == ["is-a-proxy"]


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


# ------------------------------------------------------------------------------------- files


def test_a_file_and_its_key(tmp_path: Path) -> None:
    certificate, key = GOOD_HOST.write(tmp_path)
    (tmp_path / "ca.pem").write_bytes(pem(CA.certificate))
    words = [str(certificate), "--name", NAME, "--ca", str(tmp_path / "ca.pem"), "--key", str(key)]
    code, shown = doctor(*words)
    assert (code, "no faults, no warnings" in shown) == (0, True), shown
    key.chmod(0o640)
    code, shown = doctor(*words)
    assert (code, "WARNING  key-exposed" in shown) == (0, True), shown
    key.chmod(0o644)
    code, shown = doctor(*words)
    assert (code, "FAULT    key-exposed" in shown, "mode 644" in shown) == (1, True, True), shown
    key.chmod(0o600)
    secret = key_pem(GOOD_HOST.key).decode()
    for content, expected in {
        key_pem(new_key()): "key-foreign",
        b"nonsense": "key-unreadable",
        GOOD_HOST.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")): "passphrase",
    }.items():
        key.write_bytes(content)
        code, shown = doctor(*words)
        assert code == 1
        assert expected in shown
        assert secret.splitlines()[1] not in shown
    key.unlink()
    assert "key-unreadable" in doctor(*words)[1]


def test_a_key_in_the_same_file(tmp_path: Path) -> None:
    file = tmp_path / "both.pem"
    file.write_bytes(pem(GOOD_HOST.certificate) + key_pem(GOOD_HOST.key))
    (tmp_path / "ca.pem").write_bytes(pem(CA.certificate))
    file.chmod(0o644)
    code, shown = doctor(str(file), "--ca", str(tmp_path / "ca.pem"))
    assert (code, "key-exposed" in shown) == (1, True)


def test_what_is_not_there(tmp_path: Path) -> None:
    assert doctor(str(tmp_path / "absent.pem"))[0] == 3
    (tmp_path / "empty.pem").touch()
    assert doctor(str(tmp_path / "empty.pem"))[0] == 3
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        code, sentence = doctor(f"127.0.0.1:{nobody.getsockname()[1]}")
        assert (code, "refused" in sentence) == (3, True)
    with socket.create_server(("127.0.0.1", 0)) as dumb:
        talker = threading.Thread(target=_say_hello, args=(dumb,))
        talker.start()
        code, sentence = doctor(f"127.0.0.1:{dumb.getsockname()[1]}")
        talker.join()
        assert (code, "does not speak TLS" in sentence) == (3, True)
    assert doctor("no-such-host.invalid")[0] == 3
    assert doctor("two words")[0] == 2
    assert doctor("localhost:99999")[0] == 2
    assert doctor("localhost", "--key", "x")[0] == 2
    assert doctor("localhost", "--name", "*.org")[0] == 2


def _say_hello(listener: socket.socket) -> None:
    plain, _ = listener.accept()
    with plain:
        plain.sendall(b"220 mail.example.org\r\n" * 20)
        plain.recv(4096)


def test_a_server_that_wants_a_clients_certificate(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(pem(CA.certificate))
    with serving(GOOD_HOST, tmp_path, wants_certificate=True) as port:
        words = [f"127.0.0.1:{port}", "--name", NAME, "--ca", str(tmp_path / "ca.pem")]
        code, shown = doctor(*words)
    assert (code, "could not tell" in shown) == (0, True), shown


def test_what_others_refuse_is_a_finding_even_if_no_rule_of_ours_explains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, _ = GOOD_HOST.write(tmp_path)
    (tmp_path / "ca.pem").write_bytes(pem(CA.certificate))
    refusal = looking.Verdict(by="openssl verify", code="refused-by-openssl", accepts=False, says="something new")
    monkeypatch.setattr(reporting, "openssl_verdict", lambda *_, **__: refusal)
    code, shown = doctor(str(certificate), "--ca", str(tmp_path / "ca.pem"))
    assert (code, "refused-by-openssl: openssl verify refuses it: something new." in shown) == (1, True)


def test_a_urls_host_and_plain_addresses(tmp_path: Path) -> None:
    assert cli._host_and_port("https://se.example.org:8443/path") == ("se.example.org", 8443)
    assert cli._host_and_port("[::1]:8443") == ("::1", 8443)
    assert cli._host_and_port("::1") == ("::1", 443)
    assert cli._host_and_port("se.example.org") == ("se.example.org", 443)
