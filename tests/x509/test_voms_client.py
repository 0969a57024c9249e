"""The HTTPS way of asking for attributes. Its server here is a stand-in for VOMS-AA, which no package brings.

The way of the C server is in test_real_voms, with the real one.
"""

import base64
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spinor.errors import BadInput
from spinor.x509.chain import verify_chain
from spinor.x509.proxy import make_proxy
from spinor.x509.refusals import VomsServerRefused, VomsServerUnreachable
from spinor.x509.trust import TrustStore
from spinor.x509.voms import VomsServer, make_attributes, request_attributes, verify_attributes, with_attributes
from tests.x509.pki import NOW, Pki, write_host

HOUR = timedelta(hours=1)
MEMBER_OF = ("/testvo/prod/Role=admin", "/testvo")
ERROR = (
    '<?xml version="1.0"?><voms><error><code>NoSuchUser</code><message>who is &lt;that&gt;?</message></error></voms>'
)


class StandIn(HTTPServer):
    """Answers /generate-ac as the VOMS APIs describe it, or as it is told to."""

    pki: Pki
    answers: list[tuple[int, str]]
    asked: list[str]


class Answering(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, text = self.server.answers.pop() if self.server.answers else (200, self._attributes())
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def _attributes(self) -> str:
        assert isinstance(self.connection, ssl.SSLSocket)
        der = self.connection.getpeercert(binary_form=True)
        assert der is not None
        assert x509.load_der_x509_certificate(der).issuer == self.server.pki.ada.leaf.issuer
        query = parse_qs(urlsplit(self.path).query)
        fqans = query.get("fqans", [",".join(MEMBER_OF)])[0].split(",")
        lifetime = timedelta(seconds=int(query["lifetime"][0]))
        ac = make_attributes(
            "testvo", [each for each in fqans if each in MEMBER_OF] or ["/testvo"], self.server.pki.ada.leaf,
            self.server.pki.voms_host, uri="localhost:1", lifetime=lifetime, now=NOW,
        )  # fmt: skip
        return f"<?xml version='1.0'?><voms><ac>{base64.encodebytes(ac).decode()}</ac></voms>"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """The test looks at `asked`."""


@pytest.fixture(scope="module")
def stand_in(pki: Pki) -> Iterator[StandIn]:
    server = StandIn(("127.0.0.1", 0), Answering)
    server.pki, server.answers, server.asked = pki, [], []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_host(pki.home, pki.voms_host, "stand-in"))
    context.load_verify_locations(cadata=pki.root.certificate.public_bytes(Encoding.DER))
    context.load_verify_locations(cadata=pki.authority.certificate.public_bytes(Encoding.DER))
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def voms(stand_in: StandIn) -> VomsServer:
    return VomsServer("testvo", "localhost", stand_in.server_port, "/DC=test/DC=grid/CN=voms.test", "testvo")


def test_attributes_by_https(stand_in: StandIn, pki: Pki, trust: TrustStore) -> None:
    der = request_attributes(voms(stand_in), pki.ada, ["/testvo/prod/Role=admin"], HOUR, trust)
    assert stand_in.asked[-1] == "/generate-ac?lifetime=3600&fqans=/testvo/prod/Role=admin"
    proxy = make_proxy(pki.ada, lifetime=HOUR, extensions=[with_attributes(der)], now=NOW)
    now = datetime.now(UTC)
    (found,) = verify_attributes(verify_chain(proxy.chain, trust, now), trust, pki.vomsdir, now)
    assert found.fqans == ("/testvo/prod/Role=admin",)
    request_attributes(voms(stand_in), pki.ada, [], HOUR, trust)
    assert stand_in.asked[-1] == "/generate-ac?lifetime=3600"


def test_less_than_was_asked_for_is_refused(stand_in: StandIn, pki: Pki, trust: TrustStore) -> None:
    with pytest.raises(VomsServerRefused, match="does not give /testvo/Role=other"):
        request_attributes(voms(stand_in), pki.ada, ["/testvo", "/testvo/Role=other"], HOUR, trust)


def test_errors_are_told(stand_in: StandIn, pki: Pki, trust: TrustStore) -> None:
    stand_in.answers = [(403, ERROR)]
    with pytest.raises(VomsServerRefused, match=r"who is <that>\?"):
        request_attributes(voms(stand_in), pki.ada, [], HOUR, trust)
    for nonsense in ("", "<voms></voms>", "<voms><ac>QQ==</ac></voms>", "<voms><ac>=</ac></voms>"):
        stand_in.answers = [(200, nonsense)]
        with pytest.raises(VomsServerRefused, match="gives no reason"):
            request_attributes(voms(stand_in), pki.ada, [], HOUR, trust)


def test_what_is_asked_for_must_be_of_the_vo(stand_in: StandIn, pki: Pki, trust: TrustStore) -> None:
    for fqan in ("/other", "testvo", "/testvo/Role=a&lifetime=9", "/testvo/Role=</command>"):
        with pytest.raises(BadInput):
            request_attributes(voms(stand_in), pki.ada, [fqan], HOUR, trust)


def test_a_server_that_is_not_there(pki: Pki, trust: TrustStore) -> None:
    nowhere = VomsServer("testvo", "localhost", 1, "/CN=x", "testvo")
    with pytest.raises(VomsServerUnreachable) as refused:
        request_attributes(nowhere, pki.ada, [], HOUR, trust)
    assert refused.value.retry
