"""Structured logs: one JSON object a line on stderr, with the request, job or pilot it belongs to."""

import contextvars
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import msgspec

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_bound: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("spinor_log_facts", default=_NOTHING)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextmanager
def bind(**facts: Any) -> Iterator[None]:
    """Add facts (request_id, job_id, pilot_id …) to every line written inside the block."""
    token = _bound.set({**_bound.get(), **facts})
    try:
        yield
    finally:
        _bound.reset(token)


def bound(name: str) -> Any:
    """The fact of this name that the running request, job or pilot bound, or None."""
    return _bound.get().get(name)


class JsonLines(logging.Formatter):
    """Render a record as one JSON object; `extra=` facts become keys."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_bound.get(),
        }
        line.update({k: v for k, v in vars(record).items() if k not in _STANDARD})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure(level: str = "INFO") -> None:
    """Send everything to stderr as JSON lines. Called once, by a process's entry point."""
    # What no line tells need not be found out for each: the caller's frame, the thread and the process.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [stderr]
    root.setLevel(level)
    # The HTTP client would write the headers of foreign answers, cookies among them, at the level DEBUG.
    for noisy in ("psycopg.pool", "pgqueuer", "uvicorn.access", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
