"""Every client context is strict, and takes up changed CAs; every one in the source comes from one place."""

import ast
import logging
import shutil
import socket
import ssl
from pathlib import Path

import httpx
import pytest

from spinor.client import Client, ServerNotTrusted
from spinor.credentials import Server
from spinor.x509.tls import RenewedContext, client_context
from spinor_pilot.server import _tls as pilot_context

from . import pki
from .hosts import Authority, Wish, pem, serving

SOURCE = Path(__file__).parents[2] / "src"
CA, OTHER = Authority.root(), Authority.root("Other CA", "elsewhere")
LOCAL = Wish(dns=["localhost"], addresses=["127.0.0.1"])


def accepts(context: ssl.SSLContext, port: int, name: str = "localhost") -> bool:
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        try:
            context.wrap_socket(plain, server_hostname=name).close()
        except ssl.SSLCertVerificationError:
            return False
    return True


def test_the_common_name_opens_nothing(tmp_path: Path) -> None:
    """Python's own default would take it."""
    host = CA.host(Wish(common_name="localhost", dns=[]))
    ca = tmp_path / "ca.pem"
    ca.write_bytes(pem(CA.certificate))
    with serving(host, tmp_path) as port:
        assert accepts(ssl.create_default_context(cafile=str(ca)), port)
        assert not accepts(client_context(ca), port)
        assert not accepts(pilot_context(ca.read_text()), port)
        client = Client(f"https://localhost:{port}", Server(ca_file=str(ca)), token="a.b.c")
        client.patient = False
        with pytest.raises(ServerNotTrusted, match="Hostname mismatch"):
            client.get("/api/health")


def test_a_changed_ca_file_is_taken_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(pem(OTHER.certificate))
    context = client_context(ca)
    caplog.set_level(logging.INFO, "spinor.x509.tls")
    with serving(CA.host(LOCAL), tmp_path) as port:
        assert not accepts(context, port)
        ca.write_bytes(pem(OTHER.certificate, CA.certificate))
        assert accepts(context, port)
        ca.write_bytes(pem(CA.certificate)[:200])  # Half written: what was there before stays.
        assert accepts(context, port)
        ca.unlink()
        assert accepts(context, port)
        ca.write_bytes(pem(OTHER.certificate))
        assert not accepts(context, port)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO"]


@pytest.mark.parametrize("is_hashed", [True, False], ids=["as IGTF's", "of *.pem files"])
def test_a_changed_directory_is_taken_up(tmp_path: Path, is_hashed: bool) -> None:
    place = tmp_path / "certificates"

    def put(authority: Authority, name: str) -> None:
        place.mkdir(exist_ok=True)
        if is_hashed:
            pki.write_authority(place, pki.Authority(authority.certificate, authority.key))
        else:
            (place / f"{name}.pem").write_bytes(pem(authority.certificate))

    put(OTHER, "other")
    context = client_context(place)
    with serving(CA.host(LOCAL), tmp_path) as port:
        assert not accepts(context, port)
        put(CA, "ca")
        assert accepts(context, port)
        shutil.rmtree(place)
        put(OTHER, "other")
        assert not accepts(context, port)


def test_httpx_takes_it_up_on_its_next_connection(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(pem(OTHER.certificate))
    empty = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    with httpx.Client(verify=client_context(ca)) as client, serving(CA.host(LOCAL), tmp_path, answer=empty) as port:
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            client.get(f"https://localhost:{port}/")
        ca.write_bytes(pem(CA.certificate))
        assert client.get(f"https://localhost:{port}/").status_code == 204


async def test_httpx_on_asyncio_too(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(pem(OTHER.certificate))
    empty = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    async with httpx.AsyncClient(verify=client_context(ca)) as client:
        with serving(CA.host(LOCAL), tmp_path, answer=empty) as port:
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                await client.get(f"https://localhost:{port}/")
            ca.write_bytes(pem(CA.certificate))
            assert (await client.get(f"https://localhost:{port}/")).status_code == 204


def test_a_ca_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        client_context(tmp_path / "absent.pem")
    (tmp_path / "broken.pem").write_text("-----BEGIN")
    with pytest.raises(ssl.SSLError):
        client_context(tmp_path / "broken.pem")


# ------------------------------------------------------------------------------------- the source

# Who else makes a context, must set what `client_context` sets: the pilot, which has the standard library alone.
ONE_PLACE = "spinor/x509/tls.py"
LOOKS_ONLY = "spinor/x509/diagnosis/looking.py"
WORDS = {"SSLContext", "create_default_context", "_create_unverified_context", "_create_default_https_context"}


def test_every_context_is_strict_about_names() -> None:
    lax = []
    for file in SOURCE.rglob("*.py"):
        name = str(file.relative_to(SOURCE))
        for function in ast.walk(ast.parse(file.read_text())):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or name in (ONE_PLACE, LOOKS_ONLY):
                continue
            nodes = list(ast.walk(function))
            makes = any(isinstance(node, ast.Call) and _called(node) in WORDS for node in nodes)
            if makes and not any(_sets_false(node, "hostname_checks_common_name") for node in nodes):
                lax.append(f"{name}: {function.name} makes a context; take spinor.x509.tls.client_context")
    assert lax == []


def test_the_one_place_is_strict(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(pem(CA.certificate))
    for context in (client_context(), client_context(tmp_path / "ca.pem"), client_context(tmp_path)):
        made = [context, context.current()] if isinstance(context, RenewedContext) else [context]
        for each in made:
            assert not each.hostname_checks_common_name
            assert each.check_hostname
            assert each.verify_mode is ssl.CERT_REQUIRED
            assert each.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_bad_file_of_a_directory_shuts_out_nobody_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "certificates"
    place.mkdir()
    (place / "good.pem").write_bytes(pem(CA.certificate))
    (place / "bad.pem").write_text("-----BEGIN CERTIFICATE-----")
    with serving(CA.host(LOCAL), tmp_path) as port:
        assert accepts(client_context(place), port)
    assert "bad.pem holds no certificates" in caplog.text


def test_only_the_diagnosis_looks_without_verifying() -> None:
    unverified = {
        str(file.relative_to(SOURCE))
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr == "CERT_NONE")
        or (isinstance(node, ast.keyword) and node.arg in ("verify", "check_hostname") and _is_false(node.value))
        or _sets_false(node, "check_hostname")
    }
    assert unverified == {LOOKS_ONLY}


def test_every_http_client_is_given_a_context() -> None:
    """httpx and urllib would trust by rules of their own."""
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            given = {keyword.arg for keyword in node.keywords}
            if _called(node) == "HTTPSConnection":
                assert "context" in given, f"{file}:{node.lineno}"
            if _called(node) in ("AsyncClient", "HTTPTransport", "AsyncHTTPTransport") or _is_httpx_call(node):
                assert "verify" in given, f"{file}:{node.lineno}"
            assert _called(node) != "urlopen", f"{file}:{node.lineno}"


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_httpx_call(node: ast.Call) -> bool:
    function = node.func
    verbs = ("Client", "get", "post", "put", "delete", "request", "stream")
    is_httpx = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
    return is_httpx and function.value.id == "httpx" and function.attr in verbs  # type: ignore[attr-defined]


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _sets_false(node: ast.AST, name: str) -> bool:
    """Whether `something.name = False` stands here."""
    if not isinstance(node, ast.Assign) or not _is_false(node.value):
        return False
    return any(isinstance(target, ast.Attribute) and target.attr == name for target in node.targets)
