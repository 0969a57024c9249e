"""A stand-in for the client's wire: it keeps what is sent, and answers as it is told to."""

import urllib.parse
from collections.abc import Mapping
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from spinor.cli import run
from spinor.client import Client


class StandIn(Client):
    """No server is behind it: it shows what a command sends to routes whose answers the test gives."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__("https://stand-in")
        self.answers = answers
        self.sent: list[tuple[str, dict[str, str], pa.Table]] = []

    def token(self) -> str:
        return "token"

    def close(self) -> None:
        """There is nothing to close."""

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        address, _, query = path.partition("?")
        answer = self.answers[address]
        if headers.get("content-type") == "application/vnd.apache.arrow.stream":
            with pa.ipc.open_stream(body) as stream:
                table = stream.read_all()
            self.sent.append((address, dict(urllib.parse.parse_qsl(query, keep_blank_values=True)), table))
            answer = answer(table)
        return 200, {}, msgspec.json.encode(answer)

    def rows(self) -> list[dict[str, Any]]:
        return [row for _, _, table in self.sent for row in table.to_pylist()]


def _registered(table: pa.Table) -> Any:
    return {"registered": table.num_rows, "already": 0, "differing": [], "refused": []}


# What `register-manifest` asks for.
SERVER: dict[str, Any] = {
    "/api/storage-elements": [
        {"name": name, "site": None, "plugin": "file", "root": f"root://host:1094//eos/{name}", "read_only": False}
        for name in ("one-se", "two-se")
    ],
    "/api/auth/whoami": {
        "user": "ada", "full_name": "", "vo": "astro", "group": "astro_users", "scopes": [], "memberships": [],
    },
    "/api/files/register-batch": _registered,
}  # fmt: skip


def use(monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, Any]) -> StandIn:
    wire = StandIn(answers)
    monkeypatch.setattr(Client, "from_environment", staticmethod(lambda: wire))
    return wire


def spinor(*words: str) -> int:
    return run(list(words))
