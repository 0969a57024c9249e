"""A request for every route, made from what the route asks for: it need not be sensible, only understood."""

import asyncio
import re
import types
import typing
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from spinor.http import Route

Message = MutableMapping[str, Any]


def path_of(route: Route) -> str:
    """The address, with a number that nothing has for each name in it."""
    return re.sub(r"{\w+}", "999999", route.path)


def body_of(route: Route) -> bytes:
    kind = route.asks.get("body")
    if kind is None or kind is bytes:
        return b""
    return msgspec.json.encode(sample(kind))


def sample(kind: Any) -> Any:
    """The least value of a type: required fields only, each the least of its own type."""
    kind, least = _plain(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (list, tuple, set, frozenset):
        return [sample(arguments[0])] * least
    if origin is dict or kind is dict:
        return {}
    if origin in (typing.Union, types.UnionType):
        return None if type(None) in arguments else sample(arguments[0])
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = [field for field in msgspec.structs.fields(kind) if field.required or field.name == "wait_s"]
        found = {field.encode_name: 0 if field.name == "wait_s" else sample(field.type) for field in fields}
        return list(found.values()) if kind.__struct_config__.array_like else found
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind)).value
    simple = {str: "x" * max(1, least), int: least, float: float(least), bool: False, bytes: "", UUID: str(UUID(int=1))}
    return datetime.now(UTC).isoformat() if kind is datetime else simple.get(kind)


def _plain(kind: Any) -> tuple[Any, int]:
    """The type without its annotations, and the least length or value that these ask for."""
    least = 0
    while True:
        if hasattr(kind, "__supertype__"):
            kind = kind.__supertype__
        elif typing.get_origin(kind) is typing.Annotated:
            for meta in kind.__metadata__:
                least = max(least, getattr(meta, "min_length", None) or getattr(meta, "ge", None) or 0)
            kind = typing.get_args(kind)[0]
        else:
            return kind, int(least)


async def status_of(
    app: Callable[..., Awaitable[None]], method: str, path: str, body: bytes, headers: dict[str, str]
) -> int:
    """The status of the answer. Its body is not waited for: some answers never end."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "scheme": "https",
        "query_string": b"", "headers": raw, "client": ("127.0.0.1", 1), "server": ("localhost", 443), "root_path": "",
    }  # fmt: skip
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if parts:
            return parts.pop()
        await started
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start" and not started.done():
            started.set_result(message["status"])

    task = asyncio.ensure_future(app(scope, receive, send))

    def without_answer(_: asyncio.Future[None]) -> None:
        if not started.done():
            started.set_result(599)

    task.add_done_callback(without_answer)
    status = await asyncio.wait_for(started, 20)
    await asyncio.wait([task], timeout=1)
    task.cancel()
    return status
