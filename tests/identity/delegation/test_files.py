"""Proxy files: of mode 0600 from their first moment, whole or not there, and never through a link (CVE-2024-29905)."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, pkcs12

from spinor.errors import BadInput, SpinorError
from spinor.identity.delegation import client as delegation
from spinor.identity.delegation.cli import proxy
from spinor.x509.proxy import make_proxy, read_credential, write_credential
from tests.x509.pki import Pki, write_host

IN_CREATE, IN_MODIFY, IN_MOVED_TO = 0x100, 0x2, 0x80
HOUR = timedelta(hours=1)


@pytest.fixture
def home(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody with a certificate in ~/.globus, and a directory for proxies that everybody may write to."""
    write_host(tmp_path / ".globus", pki.ada, "user")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "tmp" / "proxy"))
    monkeypatch.setenv("X509_CERT_DIR", str(pki.certificates))
    for name in ("X509_USER_CERT", "X509_USER_KEY", "X509_VOMSES", "VOMS_USERCONF"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(proxy, list(words), catch_exceptions=True)


@contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """The modes of all files of a folder at each moment at which the system tells of a change there."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    assert libc.inotify_add_watch(descriptor, bytes(folder), IN_CREATE | IN_MODIFY | IN_MOVED_TO) >= 0
    modes: list[int] = []

    def watch() -> None:
        while True:
            data = os.read(descriptor, 65536)
            while data:
                (length,) = struct.unpack_from("I", data, 12)
                name, data = data[16 : 16 + length].rstrip(b"\0"), data[16 + length :]
                if name == b"end":
                    return
                for each in (path for path in folder.iterdir() if path.name != "end"):
                    with suppress(FileNotFoundError):  # It has its name by now.
                        modes.append(stat.S_IMODE(each.lstat().st_mode))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield modes
    finally:
        (folder / "end").touch()
        thread.join()
        os.close(descriptor)
        (folder / "end").unlink()


def test_nobody_else_can_ever_read_it(home: Path) -> None:
    before = os.umask(0)
    try:
        with watched(home / "tmp") as modes:
            for _ in range(3):
                assert run("init", "--hours", "1").exit_code == 0
    finally:
        os.umask(before)
    assert len(modes) >= 3
    assert set(modes) == {0o600}
    assert [path.name for path in (home / "tmp").iterdir()] == ["proxy"]


def test_a_readable_file_that_is_there_is_replaced(home: Path) -> None:
    path = home / "tmp" / "proxy"
    path.touch(mode=0o666)
    path.chmod(0o666)
    with path.open("rb") as open_before:
        assert run("init", "--hours", "1").exit_code == 0
        assert open_before.read() == b""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_replaced_and_not_followed(home: Path) -> None:
    target, link = home / "precious", home / "tmp" / "proxy"
    target.write_text("mine")
    link.symlink_to(target)
    assert run("init", "--hours", "1").exit_code == 0
    assert target.read_text() == "mine"
    assert not link.is_symlink()
    link.unlink()
    link.symlink_to(target)
    for words in (("destroy",), ("info",)):
        assert run(*words).exit_code != 0
    assert target.read_text() == "mine"


def test_destroy_leaves_nothing(home: Path) -> None:
    assert run("init", "--hours", "1").exit_code == 0
    path = home / "tmp" / "proxy"
    os.link(path, home / "copy")
    assert run("destroy").exit_code == 0
    assert not path.exists()
    assert set((home / "copy").read_bytes()) == {0}
    assert isinstance(run("destroy").exception, FileNotFoundError)


def test_killed_half_way_the_former_is_whole(home: Path) -> None:
    assert run("init", "--hours", "1").exit_code == 0
    path = home / "tmp" / "proxy"
    before = path.read_bytes()
    program = (
        "import os, signal, pathlib\n"
        "def stop(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "pathlib.Path.replace = stop\n"
        "from spinor.identity.delegation.cli import proxy\n"
        "proxy(['init', '--hours', '2'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert {stat.S_IMODE(each.stat().st_mode) for each in (home / "tmp").iterdir()} == {0o600}


def test_init_and_info(home: Path) -> None:
    done = run("init", "--hours", "2", "--limited")
    assert done.exit_code == 0
    told = run("info")
    assert told.exit_code == 0
    for said in ("/DC=test/DC=grid/CN=Ada Lovelace/CN=", "RFC 3820 proxy, limited", "2048 bits", "verified"):
        assert said in told.output
    found = msgspec.json.decode(run("info", "--json").output)
    assert (found["verified"], found["identity"]) == ("yes", "/DC=test/DC=grid/CN=Ada Lovelace")
    assert 7100 < found["timeleft_s"] <= 7200
    assert "PRIVATE" not in told.output


def test_info_tells_of_an_expired_proxy(home: Path, pki: Pki) -> None:
    yesterday = datetime.now(UTC) - timedelta(hours=20)
    write_credential(home / "tmp" / "proxy", make_proxy(pki.ada, lifetime=HOUR, now=yesterday))
    done = run("info")
    assert done.exit_code == 1
    assert "expired" in done.output


def test_where_a_credential_is_looked_for(home: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "tmp" / "proxy"
    assert delegation.find_credential().leaf == pki.ada.leaf
    write_credential(path, make_proxy(pki.ada, lifetime=HOUR, now=datetime.now(UTC)))
    assert delegation.find_credential().leaf == read_credential(path).leaf
    write_credential(path, make_proxy(pki.ada, lifetime=HOUR, now=datetime.now(UTC) - timedelta(hours=20)))
    assert delegation.find_credential().leaf == pki.ada.leaf
    (home / ".globus" / "usercert.pem").unlink()
    with pytest.raises(delegation.NoCertificate, match="has expired"):
        delegation.find_credential()
    assert run("init").exit_code != 0


def test_a_passphrase_is_asked_for(home: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "open sesame"

    monkeypatch.setattr("getpass.getpass", answer)
    closed = BestAvailableEncryption(b"open sesame")
    key = home / ".globus" / "userkey.pem"
    key.write_bytes(pki.ada.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, closed))
    assert delegation.find_certificate().key.public_key() == pki.ada.key.public_key()
    key.unlink()
    (home / ".globus" / "usercert.pem").unlink()
    bundle = home / ".globus" / "usercred.p12"
    bundle.touch(mode=0o600)
    bundle.write_bytes(
        pkcs12.serialize_key_and_certificates(b"ada", pki.ada.key, pki.ada.leaf, pki.ada.chain[1:], closed)
    )
    found = delegation.find_certificate()
    assert (found.leaf, found.chain) == (pki.ada.leaf, pki.ada.chain)
    assert len(asked) == 2
    bundle.chmod(0o644)
    with pytest.raises(SpinorError, match="not yours alone"):
        delegation.find_certificate()


def test_how_attributes_are_asked_for() -> None:
    assert delegation.asked_attributes([]) is None
    one = delegation.asked_attributes(["astro:/astro/Role=production", "/astro/sub"])
    assert one is not None
    assert (one.vo, one.fqans) == ("astro", ["/astro/Role=production", "/astro/sub"])
    plain = delegation.asked_attributes(["astro"])
    assert plain is not None
    assert (plain.vo, plain.fqans) == ("astro", [])
    with pytest.raises(BadInput):
        delegation.asked_attributes(["astro", "bio"])


def test_the_command_starts_without_heavy_modules() -> None:
    looked = "print('cryptography' in sys.modules, 'psycopg' in sys.modules)"
    program = f"import sys; import spinor.identity.delegation.cli; {looked}"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
