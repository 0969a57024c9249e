"""The pilot's way to its server: who is trusted, what is tried again, what is not."""

import contextlib
import datetime
import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spinor_pilot.server import GivenUp, Refused, Server, Unreachable, Untrusted

Answer = tuple[int, dict[str, Any] | bytes]


class Peer:
    """A little server that answers from a list, and remembers what it was asked."""

    def __init__(self, answers: list[Answer | None], tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        peer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                peer.asked.append((self.command, self.path, body))
                told = answers.pop(0) if answers else (200, {})
                if told is None:
                    self.close_connection = True
                    return
                raw = told[1] if isinstance(told[1], bytes) else json.dumps(told[1]).encode()
                self.send_response(told[0])
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    with contextlib.ExitStack() as stack:

        def start(*answers: Answer | None, tls: ssl.SSLContext | None = None) -> Peer:
            made = Peer(list(answers), tls)
            thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            stack.callback(thread.join)
            stack.callback(made.server.server_close)
            stack.callback(made.server.shutdown)
            return made

        yield start


@contextlib.contextmanager
def client(port: int, scheme: str = "http", ca_pem: str = "", host: str = "127.0.0.1") -> Iterator[Server]:
    server = Server(f"{scheme}://{host}:{port}", ca_pem)
    try:
        yield server
    finally:
        server.close()


def test_a_busy_server_is_asked_again_with_the_whole_body(peer: Callable[..., Peer], tmp_path: Path) -> None:
    busy: Answer = (503, {"code": "unavailable", "detail": "later"})
    there = peer(busy, None, (500, {}), (200, {"position": 7}))
    (tmp_path / "x").write_bytes(b"content" * 1000)
    with client(there.port) as server, open(tmp_path / "x", "rb") as file:
        assert server.send("PUT", "/x", file) == {"position": 7}
    assert len(there.asked) == 4
    assert {body for _, _, body in there.asked} == {b"content" * 1000}


def test_a_refusal_is_final_and_told(peer: Callable[..., Peer]) -> None:
    there = peer((409, {"code": "stale-report", "detail": "not yours", "position": 3}))
    with client(there.port) as server, pytest.raises(Refused, match=r"409 stale-report.*not yours") as refused:
        server.json("POST", "/x", {})
    assert refused.value.first
    assert refused.value.facts["position"] == 3
    assert len(there.asked) == 1


def test_a_refusal_after_a_broken_try_is_known_as_such(peer: Callable[..., Peer]) -> None:
    """The first try may have done what was asked, so the pilot must not clean up after it."""
    there = peer((503, {}), (409, {"code": "stale-report"}))
    with client(there.port) as server, pytest.raises(Refused) as refused:
        server.json("POST", "/x", {})
    assert not refused.value.first


def test_a_refusal_after_a_closed_connection_is_no_first_one(peer: Callable[..., Peer]) -> None:
    """Whether the server had heard the request before the connection closed, nobody knows."""
    there = peer((200, {}), None, (409, {"code": "stale-report"}))
    asked_between_tries = []
    with client(there.port) as server:
        server.json("GET", "/x")
        with pytest.raises(Refused) as refused:
            server.json("POST", "/x", {}, given_up=lambda: bool(asked_between_tries.append(1)))  # type: ignore[func-returns-value]
    assert not refused.value.first
    assert asked_between_tries


PAGE = b"<html>welcome to the proxy</html>"


@pytest.mark.parametrize(
    "strange",
    [(200, PAGE), (200, b""), (200, b"[]"), (404, PAGE), (403, b""), (408, b""), (421, {"detail": "no such host"})],
    ids=lambda answer: f"{answer[0]} {answer[1]!r:.6}",
)
def test_what_is_not_of_our_server_is_asked_again(peer: Callable[..., Peer], strange: Answer) -> None:
    """A proxy that is restarting decides nothing about payloads."""
    there = peer((200, {}), strange, (200, {"n": 1}))
    with client(there.port) as server:
        server.json("GET", "/x")
        assert server.json("POST", "/x", {}) == {"n": 1}


def test_a_request_that_is_too_large_for_a_proxy_stays_so(peer: Callable[..., Peer]) -> None:
    there = peer((200, {}), (413, PAGE))
    with client(there.port) as server:
        server.json("GET", "/x")
        with pytest.raises(Refused, match="413"):
            server.json("POST", "/x", {})


def test_an_address_where_no_server_of_ours_was_ever_is_not_asked_again(peer: Callable[..., Peer]) -> None:
    there = peer((404, PAGE))
    with client(there.port) as server, pytest.raises(Refused, match="404"):
        server.json("POST", "/api/pilot/enrol", {})
    assert len(there.asked) == 1


def test_an_answer_may_have_no_body(peer: Callable[..., Peer]) -> None:
    there = peer((204, b""))
    with client(there.port) as server:
        assert server.json("POST", "/x", {}) == {}


def test_patience_ends(monkeypatch: pytest.MonkeyPatch, peer: Callable[..., Peer]) -> None:
    there = peer()
    there.server.server_close()
    with client(there.port) as server, pytest.raises(Unreachable, match=str(there.port)):
        server.json("GET", "/x", patience_s=0.5)


def test_whoever_waits_can_give_up(peer: Callable[..., Peer]) -> None:
    there = peer(*[(503, {})] * 50)
    began = time.monotonic()
    with client(there.port) as server, pytest.raises(GivenUp):
        server.json("GET", "/x", given_up=lambda: time.monotonic() - began > 0.5)
    assert time.monotonic() - began < 2


def test_pauses_grow_and_vary(monkeypatch: pytest.MonkeyPatch, peer: Callable[..., Peer]) -> None:
    slept: list[float] = []
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    monkeypatch.setattr("spinor_pilot.server.time.sleep", sleep)
    monkeypatch.setattr("spinor_pilot.server.time.monotonic", lambda: now)
    there = peer(*[(503, {})] * 1000)
    with client(there.port) as server, pytest.raises(Unreachable):
        server.json("GET", "/x", patience_s=3600)
    assert now > 3600
    assert len(there.asked) < 400  # Not more than one in ten seconds on average.


def test_a_closed_connection_is_opened_again(peer: Callable[..., Peer]) -> None:
    there = peer((200, {"n": 1}), None, (200, {"n": 2}))
    with client(there.port) as server:
        assert server.json("GET", "/x") == {"n": 1}
        assert server.json("GET", "/x") == {"n": 2}


class Authority:
    """A certificate authority, and server certificates as a test wants them."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("authority", self.key, [], True)
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _sign(
        self, name: str, key: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], is_ca: bool, days: int = 1
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def tls(self, directory: Path, common_name: str, names: list[x509.GeneralName], days: int = 1) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = directory / "host.pem"
        pem.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + self._sign(common_name, key, names, False, days).public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        return context


LOCALHOST = x509.DNSName("localhost")


def test_a_named_server_of_the_given_authority_is_trusted(peer: Callable[..., Peer], tmp_path: Path) -> None:
    authority = Authority()
    there = peer(tls=authority.tls(tmp_path, "whatever", [LOCALHOST]))
    with client(there.port, "https", authority.pem, "localhost") as server:
        assert server.json("GET", "/x") == {}


@pytest.mark.parametrize(
    ("common_name", "names", "days", "other_authority"),
    [
        ("localhost", [], 1, False),  # A common name is no name.
        ("localhost", [x509.DNSName("elsewhere.example.org")], 1, False),
        ("localhost", [LOCALHOST], -1, False),
        ("localhost", [LOCALHOST], 1, True),
    ],
    ids=["common name only", "another host", "expired", "another authority"],
)
def test_nobody_else_is_trusted(
    peer: Callable[..., Peer],
    tmp_path: Path,
    common_name: str,
    names: list[x509.GeneralName],
    days: int,
    other_authority: bool,
) -> None:
    authority = Authority()
    there = peer(tls=(Authority() if other_authority else authority).tls(tmp_path, common_name, names, days))
    with client(there.port, "https", authority.pem, "localhost") as server, pytest.raises(Untrusted, match="localhost"):
        server.json("POST", "/api/pilot/enrol", {"secret": "not for strangers"})
    assert there.asked == []


def test_a_server_that_was_trusted_may_renew_its_certificate_late(peer: Callable[..., Peer], tmp_path: Path) -> None:
    """The pilot waits for that as for a server that is away, and tells it nothing meanwhile."""
    authority = Authority()
    good = authority.tls(tmp_path, "localhost", [LOCALHOST])
    there = peer((200, {"n": 1}), (200, {"n": 2}), tls=good)
    with client(there.port, "https", authority.pem, "localhost") as server:
        assert server.json("GET", "/x") == {"n": 1}
        server.close()
        authority.tls(tmp_path, "localhost", [LOCALHOST], days=-1)
        good.load_cert_chain(tmp_path / "host.pem")
        with pytest.raises(Unreachable, match="certificate of localhost is refused"):
            server.json("GET", "/x", patience_s=0)
        assert len(there.asked) == 1

        def renew() -> bool:
            authority.tls(tmp_path, "localhost", [LOCALHOST])
            good.load_cert_chain(tmp_path / "host.pem")
            return False

        assert server.json("GET", "/x", given_up=renew) == {"n": 2}
