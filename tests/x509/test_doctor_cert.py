"""`spinor doctor cert` on files, keys, aliases, and on what is not there."""

import json
import socket
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from spinor.x509.diagnosis import cli, looking
from spinor.x509.diagnosis import report as reporting

from .doctor import doctor
from .hosts import NAME, Authority, Wish, key_pem, new_key, pem, serving

CA = Authority.root()
GOOD_HOST = CA.host()


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


def test_every_address_behind_an_alias_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts behind one name, of which only one has the alias in its certificate; the resolver is the test's."""
    good, bad = CA.host(Wish(dns=["srm.example.org"])), CA.host(Wish(dns=["node2.example.org"]))
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


def test_without_an_argument_it_is_the_server_that_commands_talk_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_bytes(pem(CA.certificate))
    monkeypatch.setenv("SPINOR_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("SPINOR_CA_FILE", str(tmp_path / "ca.pem"))
    with serving(CA.host(Wish(dns=["localhost"])), tmp_path) as port:
        monkeypatch.setenv("SPINOR_URL", f"https://localhost:{port}")
        code, shown = doctor()
    assert (code, f"localhost:{port}" in shown) == (0, True), shown
