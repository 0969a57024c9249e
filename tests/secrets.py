"""No secret in any log: every line that a test makes Spinor write is looked at, and every file that a service leaves.

Looked for are signed tokens, refresh and other bearer secrets, private keys (PEM and JWK) and cookies. A test that
makes one appear in a log fails, whatever else it proves.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from spinor.logs import JsonLines

SECRET = re.compile(
    r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}"  # A signed JWT. Without its signature it would be no secret.
    r"|spinor_[a-z]+_[\w-]{24,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\\?\"(?:d|k|client_secret|secret|password|refresh_token|access_token|device_code|code_verifier)\\?\""
    r": ?\\?\"[\w.~+/-]{16,}"
    r"|__Host-spinor=[\w-]{16,}"
)


def secrets_in(text: str) -> list[str]:
    """What looks like a secret, cut so that the report does not show it."""
    return [
        f"{found[0][:24]}… in: {text[max(0, found.start() - 120) : found.start()]}" for found in SECRET.finditer(text)
    ]


def check_files(directory: Path, *patterns: str) -> None:
    """Fail if a log below the directory holds a secret."""
    wrong = {
        str(path): found
        for pattern in patterns or ("*.log", "*.err", "*.out")
        for path in directory.rglob(pattern)
        if path.is_file() and (found := secrets_in(path.read_text(errors="replace")))
    }
    assert not wrong, f"secrets in logs: {wrong}"


def check_processes() -> None:
    """Fail if the command line of a process that may be looked at holds a secret."""
    wrong = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            wrong += secrets_in(words)
    assert not wrong, f"secrets on command lines: {wrong}"


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JsonLines())
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.found += secrets_in(self.format(record))
        except Exception:
            self.handleError(record)


_listener = _Listener()


def pytest_configure() -> None:
    logging.getLogger().addHandler(_listener)
    for name in ("spinor", "httpx", "httpcore", "uvicorn"):
        logging.getLogger(name).setLevel(logging.DEBUG)


@pytest.fixture(autouse=True)
def _no_secret_in_the_log() -> Iterator[None]:
    yield
    found, _listener.found = _listener.found, []
    assert not found, f"secrets in the log: {found}"
