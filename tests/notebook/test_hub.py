"""Lent tokens: where they are looked for, in which order, and what becomes of those that change or go."""

import json
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from spinor import credentials, hub
from spinor.credentials import UnsafeFile
from spinor.errors import BadInput
from spinor.hub import Lender, exchange_form, read_lent_file, sources
from tests.notebook.lending import lent_token
from tests.servers.authority import Authority

URL = "https://spinor.example.org"


class Refused(BadInput):
    status, code = 400, "subject-token-refused"


class RoleUnclear(Refused):
    code = "role-unclear"


@pytest.fixture(autouse=True)
def nothing_lent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "BEARER_TOKEN", "ACCESS_TOKEN", "SECRETS_MOUNT_PATH", "JUPYTERHUB_API_TOKEN", "JUPYTERHUB_API_URL",
        "JUPYTERHUB_PUBLIC_HUB_URL", "SPINOR_HUB_TOKEN_URL", "XDG_RUNTIME_DIR",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / "bearer"))
    monkeypatch.setattr(hub, "EGI_TOKEN_FILE", str(tmp_path / "egi.eu" / "access_token"))
    monkeypatch.setattr(hub, "_WAITS_S", (0.01, 0.01))


class Exchange:
    """Takes what it was told to take, and remembers what it was asked."""

    def __init__(self, *accepted: str) -> None:
        self.accepted, self.asked = set(accepted), list[str]()

    def __call__(self, token: str) -> str:
        self.asked.append(token)
        if token not in self.accepted:
            raise Refused("The subject token has expired.")
        return f"ours for {token}"


def put(path: Path, token: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(token + "\n")
    path.chmod(mode)
    return path


def test_places_are_looked_at_in_the_order_of_their_nearness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = {name: lent_token(name) for name in ("bearer", "access", "mounted", "egi")}
    put(tmp_path / "bearer", tokens["bearer"])
    monkeypatch.setenv("ACCESS_TOKEN", tokens["access"])
    monkeypatch.setenv("SECRETS_MOUNT_PATH", str(tmp_path / "mount"))
    put(tmp_path / "mount" / "access_token", tokens["mounted"])
    put(Path(hub.EGI_TOKEN_FILE), tokens["egi"])
    assert [source.read() for source in sources()] == list(tokens.values())
    assert [source.read() for source in sources("mine")] == ["mine"]

    refusing = Exchange(tokens["egi"])
    lender = Lender(URL, refusing)
    assert lender.exchanged() == (f"ours for {tokens['egi']}", "")
    assert refusing.asked == list(tokens.values())
    assert lender.source == f"the token in {hub.EGI_TOKEN_FILE}"


def test_a_token_of_ours_is_not_exchanged(tmp_path: Path) -> None:
    put(tmp_path / "bearer", lent_token(issuer=URL))
    assert Lender(URL, Exchange()).exchanged() == (None, "")


def test_what_is_lent_is_read_again_at_every_call() -> None:
    file = put(Path(hub.EGI_TOKEN_FILE), lent_token())
    ask = Exchange(lent_token("bea"), file.read_text().strip())
    lender = Lender(URL, ask)
    lender.exchanged()
    assert lender.holds()
    put(file, lent_token("bea"))
    assert not lender.holds()
    assert lender.exchanged()[0] == f"ours for {lent_token('bea')}"
    file.unlink()
    assert not lender.holds()
    assert lender.exchanged() == (None, "the token that the hub had lent is gone")
    assert len(ask.asked) == 2


def test_a_replacement_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(Path(hub.EGI_TOKEN_FILE), lent_token(lives_s=-60))
    fresh = lent_token("fresh")
    ask = Exchange(fresh)
    monkeypatch.setattr("spinor.hub.time.sleep", lambda _: put(file, fresh))
    assert Lender(URL, ask).exchanged() == (f"ours for {fresh}", "")
    assert ask.asked == [fresh]


def test_an_expired_token_is_not_sent_and_the_reason_names_its_place() -> None:
    put(Path(hub.EGI_TOKEN_FILE), lent_token(lives_s=-60))
    ask = Exchange()
    ours, why = Lender(URL, ask).exchanged()
    assert ours is None
    assert why == f"the token in {hub.EGI_TOKEN_FILE} has expired and was not renewed"
    assert ask.asked == []


def test_behind_an_expired_token_the_next_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCESS_TOKEN", lent_token(lives_s=-60))
    put(Path(hub.EGI_TOKEN_FILE), lent_token())
    ours, _ = Lender(URL, Exchange(lent_token())).exchanged()
    assert ours == f"ours for {lent_token()}"


def test_an_unclear_role_is_the_persons_to_say() -> None:
    put(Path(hub.EGI_TOKEN_FILE), lent_token())

    def ask(_token: str) -> str:
        raise RoleUnclear("Say which VO: astro or bio.")

    with pytest.raises(RoleUnclear, match="which VO"):
        Lender(URL, ask).exchanged()


def test_a_given_token_is_the_only_one() -> None:
    put(Path(hub.EGI_TOKEN_FILE), lent_token())
    ask = Exchange(lent_token())
    assert Lender(URL, ask, "opaque").exchanged()[0] is None
    assert ask.asked == ["opaque"]


def test_a_volume_of_kubernetes_is_read_through_its_links(tmp_path: Path) -> None:
    put(tmp_path / "volume" / "..2026_11_27" / "access_token", "first", 0o644)
    (tmp_path / "volume" / "..data").symlink_to("..2026_11_27")
    link = tmp_path / "volume" / "access_token"
    link.symlink_to("..data/access_token")
    assert read_lent_file(link) == "first"
    # It is replaced by turning one link.
    put(tmp_path / "volume" / "..2026_11_28" / "access_token", "second", 0o644)
    (tmp_path / "volume" / "..new").symlink_to("..2026_11_28")
    (tmp_path / "volume" / "..new").rename(tmp_path / "volume" / "..data")
    assert read_lent_file(link) == "second"


def _link_away(folder: Path) -> None:
    (folder / "access_token").symlink_to(put(folder.parent / "key", "a private key"))


def _link_in_a_circle(folder: Path) -> None:
    (folder / "access_token").symlink_to("access_token")


def _for_all_to_write(folder: Path) -> None:
    put(folder / "access_token", "token", 0o666)


def _for_the_group_to_write(folder: Path) -> None:
    put(folder / "access_token", "token", 0o620)


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "access_token", 0o600)


def _directory(folder: Path) -> None:
    (folder / "access_token").mkdir()


@pytest.mark.parametrize(
    "laid", [_link_away, _link_in_a_circle, _for_all_to_write, _for_the_group_to_write, _pipe, _directory]
)
def test_a_file_that_others_could_have_laid_is_refused(tmp_path: Path, laid: Callable[[Path], None]) -> None:
    (tmp_path / "mount").mkdir()
    laid(tmp_path / "mount")
    with pytest.raises(UnsafeFile) as error:
        read_lent_file(tmp_path / "mount" / "access_token")
    assert "private key" not in error.value.message


def test_no_file_and_an_empty_file_are_no_token(tmp_path: Path) -> None:
    assert read_lent_file(tmp_path / "nowhere" / "access_token") is None
    assert read_lent_file(put(tmp_path / "empty", "")) is None


def test_the_form_names_the_issuer_of_what_is_no_jwt() -> None:
    server = credentials.Server(vo="astro", lent_by="https://login.example.org")
    opaque, jwt = exchange_form("opaque", server), exchange_form(lent_token(), server)
    assert opaque["subject_issuer"] == "https://login.example.org"
    assert "subject_issuer" not in jwt
    assert jwt["vo"] == "astro"
    assert "group" not in jwt


class HubHandler(BaseHTTPRequestHandler):
    """A hub that answers as it is told, and remembers who asked what with which key."""

    answers: dict[str, tuple[int, object]]
    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("authorization", "")))
        status, document = self.answers.get(self.path, (404, {}))
        self.send_response(status)
        if status == 302:
            self.send_header("location", str(document))
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def a_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[HubHandler]]:
    handler = type("Handler", (HubHandler,), {"answers": {}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("JUPYTERHUB_API_URL", f"http://127.0.0.1:{server.server_port}/hub/api")
        monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "the server's key")
        monkeypatch.setenv("JUPYTERHUB_USER", "ada@example.org")
        yield handler
        server.shutdown()


def test_the_hub_itself_is_asked_for_the_state_of_the_login(a_hub: type[HubHandler]) -> None:
    a_hub.answers["/hub/api/users/ada%40example.org"] = (200, {"name": "ada", "auth_state": {"access_token": "lent"}})
    ours, _ = Lender(URL, Exchange("lent")).exchanged()
    assert ours == "ours for lent"
    assert a_hub.asked == [("/hub/api/users/ada%40example.org", "Bearer the server's key")]


@pytest.mark.parametrize(
    "answer",
    [
        (403, {"message": "Forbidden, server is shared"}),
        (200, {"name": "ada"}),
        (200, {"auth_state": None}),
        (200, "no object"),
        (302, "http://127.0.0.1:9/elsewhere"),
        (500, {}),
    ],
)
def test_a_hub_that_gives_no_token_gives_none(a_hub: type[HubHandler], answer: tuple[int, object]) -> None:
    a_hub.answers["/hub/api/users/ada%40example.org"] = answer
    assert Lender(URL, Exchange()).exchanged() == (None, "")
    assert len(a_hub.asked) == 1


def test_the_key_of_the_server_does_not_travel_in_the_clear(
    a_hub: type[HubHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = os.environ["JUPYTERHUB_API_URL"]
    monkeypatch.setenv("SPINOR_HUB_TOKEN_URL", api.replace("/hub/api", "/services/share-manager/token"))
    a_hub.answers["/services/share-manager/token"] = (200, {"access_token": "lent"})
    assert Lender(URL, Exchange()).exchanged() == (None, "")
    assert [path for path, _ in a_hub.asked] == ["/hub/api/users/ada%40example.org"]


def test_the_share_manager_is_asked_before_the_hub(
    a_hub: type[HubHandler], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = authority.host()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host.certificate, host.key)
    a_hub.answers["/services/share-manager/token"] = (200, {"access_token": "lent"})
    with ThreadingHTTPServer(("127.0.0.1", 0), a_hub) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("JUPYTERHUB_PUBLIC_HUB_URL", f"https://localhost:{server.server_port}/hub/")
        # Of a hub that is not known to be itself no token is taken, and it is not told the key.
        assert Lender(URL, Exchange()).exchanged() == (None, "")
        assert [path for path, _ in a_hub.asked] == ["/hub/api/users/ada%40example.org"]
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
        assert Lender(URL, Exchange("lent")).exchanged() == ("ours for lent", "")
        assert a_hub.asked[-1] == ("/services/share-manager/token", "Bearer the server's key")
        server.shutdown()


def test_a_hub_that_is_not_there_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://127.0.0.1:9/hub/api")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "key")
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    assert Lender(URL, Exchange()).exchanged() == (None, "")
