"""What a pilot sends, kept for a test to look at: the place of the server for payloads that run without one."""

import threading
from collections.abc import Callable
from typing import Any, BinaryIO


class Recorder:
    """Answers as a server does that takes everything."""

    url = "https://nowhere.example"
    ca_pem = ""

    def __init__(self) -> None:
        self.reports: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, bytearray] = {}
        self.sandboxes: list[bytes] = []
        self.asked: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def json(self, method: str, path: str, body: Any = None, **_: Any) -> dict[str, Any]:
        with self._lock:
            self.asked.append((method, path))
            if not path.endswith("/reports"):
                return {}
            self.reports.update({str(report["job_id"]): report for report in body["ended"]})
            return {kind: [{"status": "done"} for _ in reports] for kind, reports in body.items()}

    def send(
        self, _: str, path: str, body: bytes | BinaryIO, given_up: Callable[[], bool] | None = None
    ) -> dict[str, Any]:
        if "/sandboxes" in path:
            assert not isinstance(body, bytes)
            self.sandboxes.append(body.read())
            return {"sandbox_id": len(self.sandboxes)}
        assert isinstance(body, bytes)
        position = int(path.rpartition("position=")[2])
        name = f"{path.split('/')[4]} {path.split('stream=')[1].split('&')[0]}"
        with self._lock:
            log = self.logs.setdefault(name, bytearray())
            log += b"\0" * (position - len(log))
            log[position:] = body
        return {"position": position + len(body)}

    def log(self, job_id: int, stream: str = "stdout") -> str:
        return bytes(self.logs.get(f"{job_id} {stream}", b"")).decode(errors="replace")
