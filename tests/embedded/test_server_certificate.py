"""A real `spinor server`: what it refuses to start with, and how it takes a renewed certificate up."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from spinor.identity.keys import KeyRing
from spinor.x509.tls import client_context
from tests.x509.hosts import Authority, Host, Wish, key_pem, new_key, pem

CA = Authority.root()


def local(**wanted: object) -> Host:
    return CA.host(Wish(**{"dns": ["localhost"], "common_name": "localhost", **wanted}))  # type: ignore[arg-type]


@dataclass
class Process:
    folder: Path
    port: int
    child: subprocess.Popen[bytes]

    def log(self) -> list[dict[str, object]]:
        lines = (self.folder / "server.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def serial_now(self) -> int:
        """Of the certificate that a new connection sees."""
        with contextlib.closing(self.connect()) as connection:
            return serial(connection)

    def connect(self) -> http.client.HTTPSConnection:
        context = client_context(self.folder / "ca.pem")
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=10, context=context)
        connection.connect()
        return connection


def serial(connection: http.client.HTTPSConnection) -> int:
    der = connection.sock.getpeercert(binary_form=True)
    assert isinstance(der, bytes)
    return x509.load_der_x509_certificate(der).serial_number


def is_healthy(connection: http.client.HTTPSConnection) -> bool:
    connection.request("GET", "/api/health")
    answer = connection.getresponse()
    answer.read()
    return answer.status == 200


def start(folder: Path, database_url: str, host: Host) -> Process:
    (folder / "ca.pem").write_bytes(pem(CA.certificate))
    certificate, key = host.write(folder)
    if not (folder / "keys").exists():
        KeyRing.create(folder / "keys")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SPINOR_")}
    environ |= {
        "SPINOR_DATABASE_URL": database_url,
        "SPINOR_DATA_DIR": str(folder),
        "SPINOR_URL": f"https://localhost:{port}",
        "SPINOR_LISTEN": f"127.0.0.1:{port}",
        "SPINOR_TLS_CERT": str(certificate),
        "SPINOR_TLS_KEY": str(key),
    }
    with (folder / "server.log").open("wb") as log:
        child = subprocess.Popen([sys.executable, "-m", "spinor", "server"], env=environ, stderr=log)
    return Process(folder, port, child)


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Process]:
    process = start(tmp_path, database_url, local())
    try:
        for _ in range(300):
            with contextlib.suppress(OSError, http.client.HTTPException):
                with contextlib.closing(process.connect()) as connection:
                    if is_healthy(connection):
                        break
            assert process.child.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.1)
        yield process
    finally:
        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(30) == 0


def test_a_renewed_certificate_is_taken_up_and_no_connection_is_dropped(server: Process) -> None:
    folder, kept = server.folder, server.connect()
    first = serial(kept)
    assert is_healthy(kept)

    second = local()
    (folder / "host.pem").write_bytes(pem(second.certificate))  # Half of the pair: its key is not there yet.
    assert server.serial_now() == first
    (folder / "host-key.pem").write_bytes(key_pem(second.key))
    assert server.serial_now() == second.certificate.serial_number

    (folder / "host.pem").write_bytes(pem(second.certificate)[:300])  # Half a file.
    assert server.serial_now() == second.certificate.serial_number
    local(dns=["elsewhere.example.org"]).write(folder)  # A good pair, and of no use here.
    assert server.serial_now() == second.certificate.serial_number

    third = local()
    third.write(folder)
    assert server.serial_now() == third.certificate.serial_number

    assert is_healthy(kept)  # It still has what it began with.
    assert serial(kept) == first
    kept.close()
    told = [line for line in server.log() if line["logger"] == "spinor.x509.tls"]
    assert [line["level"] for line in told] == ["warning", "info", "warning", "warning", "info"]
    events = [str(line["event"]) for line in told]
    assert "key-foreign" in events[0]
    assert "new connections use the new state" in events[1]
    assert "elsewhere.example.org, but not for localhost" in events[3]
    assert "PRIVATE KEY" not in (folder / "server.log").read_text()


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ({"dns": []}, "no-names"),
        ({"dns": ["elsewhere.example.org"]}, "but not for localhost"),
        ({"begins": -timedelta(days=9), "ends": -timedelta(days=1)}, "expired on"),
    ],
)
def test_a_certificate_that_no_client_would_take_is_refused(
    tmp_path: Path, wanted: dict[str, object], part: str
) -> None:
    """Before anything is started: the database of this test does not exist."""
    process = start(tmp_path, "postgresql://nobody@127.0.0.1:1/nothing", local(**wanted))
    assert process.child.wait(30) == 1
    said = (tmp_path / "server.log").read_text()
    assert part in said
    assert "RFC" in said
    assert "Traceback" not in said


def test_a_foreign_key_is_refused(tmp_path: Path) -> None:
    host = local()
    process = start(tmp_path, "postgresql://nobody@127.0.0.1:1/nothing", Host(host.chain, new_key()))
    assert process.child.wait(30) == 1
    assert "key-foreign" in (tmp_path / "server.log").read_text()
