"""The command line's side of a sign-in: whom it believes, what it opens, and how it waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from spinor.client import Client, Problem, RemoteError, TokenAnswer
from spinor.errors import Denied, SpinorError
from spinor.identity.cli import by_device, in_browser
from spinor.identity.cli.in_browser import Listener, NoBrowser, TurnedDown, browser_command
from spinor.identity.cli.login import Asked

ISSUER, STATE = "https://spinor.example.org", "the-state"
TOKENS = TokenAnswer(access_token="a", expires_in=1200)


class Waiting:
    """A listener that waits for a browser, in a thread."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.codes: list[str] = []
        self.outcome: Any = None
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _redeem(self, code: str) -> TokenAnswer:
        self.codes.append(code)
        if code == "refused":
            raise Denied("<This code> was used before.")
        return TOKENS

    def _wait(self) -> None:
        try:
            self.outcome = self.listener.wait(self._redeem)
        except SpinorError as error:
            self.outcome = error

    def get(self, path: str = "/callback", **query: str) -> tuple[int, str]:
        place = self.listener.redirect_uri.removesuffix("/callback")
        try:
            with urlopen(f"{place}{path}?{urlencode(query)}") as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def end(self) -> Any:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.outcome


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    with Listener(STATE, ISSUER) as listener:
        made = Waiting(listener)
        yield made
        if made.outcome is None:
            made.get(state=STATE, iss=ISSUER, code="end")
        made.end()


def test_a_code_is_redeemed_once(waiting: Waiting) -> None:
    status, page = waiting.get(state=STATE, iss=ISSUER, code="c")
    assert (status, waiting.end()) == (200, TOKENS)
    assert "You are signed in" in page
    assert waiting.codes == ["c"]


@pytest.mark.parametrize("state", ["", "another", "the-statex", "é"])
def test_who_does_not_know_the_state_is_not_heard_and_spoils_nothing(waiting: Waiting, state: str) -> None:
    """Cross-site request forgery on the loopback port; an error in it neither."""
    assert waiting.get(state=state, iss=ISSUER, code="evil")[0] == 400
    assert waiting.get(state=state, iss=ISSUER, error="access_denied")[0] == 400
    assert waiting.get("/other", state=STATE, iss=ISSUER, code="evil")[0] == 404
    assert waiting.outcome is None
    assert waiting.get(state=STATE, iss=ISSUER, code="good")[0] == 200
    assert waiting.end() == TOKENS
    assert waiting.codes == ["good"]


@pytest.mark.parametrize("issuer", [None, "", "https://evil.example", ISSUER + "/", ISSUER + ".evil.example"])
def test_an_answer_of_another_service_is_thrown_away(waiting: Waiting, issuer: str | None) -> None:
    """RFC 9207: the mix-up attack."""
    query = {"state": STATE, "code": "c"} | ({} if issuer is None else {"iss": issuer})
    assert "You are not signed in" in waiting.get(**query)[1]
    assert isinstance(waiting.end(), TurnedDown)
    assert waiting.codes == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"error": "access_denied", "error_description": "no"}, "turned down"),
        ({"error": "invalid_scope", "error_description": "<b>Too much</b>"}, "Too much"),
        ({}, "without a code"),
        ({"code": "refused"}, "used before"),
    ],
)
def test_a_refusal_is_told_in_the_browser_and_in_the_terminal(
    waiting: Waiting, query: dict[str, str], said: str
) -> None:
    page = waiting.get(state=STATE, iss=ISSUER, **query)[1]
    outcome = waiting.end()
    assert isinstance(outcome, Denied)
    assert said in outcome.message
    assert said in page
    assert "<b>" not in page
    assert "<This" not in page


def test_the_port_is_of_this_machine_alone_and_closed_afterwards(waiting: Waiting) -> None:
    assert waiting.listener._server.server_address[0] == "127.0.0.1"
    waiting.get(state=STATE, iss=ISSUER, code="c")
    waiting.end()
    waiting.listener.__exit__()
    with pytest.raises(OSError, match="refused"):
        waiting.get(state=STATE, iss=ISSUER, code="c")


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "http://spinor.example.org/", "https://x/ --incognito", "https://x/\n", "-h"]
)
def test_only_an_address_is_opened(address: str, tmp_path: Path) -> None:
    with pytest.raises(NoBrowser):
        in_browser._open(["/bin/true"], address)


def test_an_address_is_one_word_and_no_command(tmp_path: Path) -> None:
    """oidc-agent before 5.3.8 gave an address to a shell."""
    opener = tmp_path / "open"
    opener.write_text('#!/bin/sh\nprintf "%s\\n" "$#" "$1" > "$0.new"; mv "$0.new" "$0.given"\n')
    opener.chmod(0o755)
    address = f"https://x/$(touch${{IFS}}{tmp_path}/made)`touch${{IFS}}{tmp_path}/made`;&|"
    assert in_browser._open([str(opener)], address).wait(20) == 0
    assert (tmp_path / "open.given").read_text().splitlines() == ["1", address]
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"DISPLAY": "localhost:10", "SSH_CONNECTION": "192.0.2.1 22"}, False),
        ({"BROWSER": "no-such-program"}, False),
        ({"BROWSER": "true:false"}, True),
        ({"BROWSER": "true --flag; rm -r /"}, False),
    ],
)
def test_where_there_is_a_browser(
    environ: dict[str, str], found: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opener = tmp_path / "xdg-open"
    opener.write_text("#!/bin/sh\n")
    opener.chmod(0o755)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"PATH": f"{tmp_path}:/usr/bin:/bin", **environ}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", "linux")
    assert (browser_command() is not None) is found


class Answering(Client):
    """A client whose service answers polls in a row, and a clock that its waits move."""

    def __init__(self, *answers: str) -> None:
        super().__init__(ISSUER)
        self.answers = list(answers)
        self.now = 0.0
        self.polls: list[tuple[float, dict[str, str]]] = []

    def request(self, *_: Any, **__: Any) -> Any:
        return {}, (
            b'{"device_code": "d", "user_code": "\\u001b]0;WDJB-MJHT", "verification_uri": "https://s/device",'
            b' "expires_in": 60, "interval": 5}'
        )

    def token_request(self, form: Any) -> TokenAnswer:
        self.polls.append((self.now, dict(form)))
        error = self.answers.pop(0) if self.answers else "authorization_pending"
        if error == "tokens":
            return TOKENS
        body = b'{"error": "%s", "error_description": "No.", "code": "x"}' % error.encode()
        raise RemoteError(400, Problem(error_description="No."), body)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait_with(client: Answering, monkeypatch: pytest.MonkeyPatch) -> TokenAnswer:
    monkeypatch.setattr(by_device, "time", client)
    return by_device.device_login(client, Asked(vo="astro", scope="files:read"))


def test_polls_keep_their_pace_and_slow_down_for_good(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Answering("authorization_pending", "slow_down", "authorization_pending", "tokens")
    assert wait_with(client, monkeypatch) == TOKENS
    assert [round(at) for at, _ in client.polls] == [5, 10, 20, 30]
    assert all(form["client_id"] == "spinor-cli" and len(form["code_verifier"]) >= 43 for _, form in client.polls)
    said = capsys.readouterr()
    assert "https://s/device" in said.err
    assert "\x1b" not in said.err, "nothing that a service sends moves the terminal"
    assert said.out == ""


def test_when_nobody_decides_it_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Answering()
    with pytest.raises(by_device.NobodyDecided):
        wait_with(client, monkeypatch)
    assert client.now <= 60


@pytest.mark.parametrize(
    ("error", "raised"),
    [("access_denied", Denied), ("invalid_grant", Denied), ("expired_token", by_device.NobodyDecided)],
)
def test_a_refusal_ends_the_wait(error: str, raised: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    client = Answering(error)
    with pytest.raises(raised):
        wait_with(client, monkeypatch)
    assert len(client.polls) == 1
