"""Routes: how a verb of a system answers at an address.

    routes = Routes("jobs")

    @routes.post("/api/jobs", scope=Scope.JOBS_SUBMIT, status=201)
    async def submit_jobs(tx: Tx, caller: Caller, body: SubmitJobs) -> JobArray:
        "Submit jobs: all of them, or none."

What the function asks for by name is what it gets: `tx` (one transaction, committed before the answer leaves), `reads`
(a connection for statements that only read), `caller`, `body` (JSON decoded into its annotated type; `bytes` for a raw
body), `query` (a Struct filled from the query string), `db` (the Database, for what outlives one transaction),
`request` (Starlette's), `state` (the application's parts), and each `{name}` of the path. It returns a model (sent as
JSON), None (204) or a Response.
"""

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from spinor import repeats
from spinor.access import Caller, Scope
from spinor.db import Database
from spinor.errors import BadInput, BodyTooLarge

T = TypeVar("T")
Verb = Callable[..., Awaitable[Any]]
_PATH_NAME = re.compile(r"{(\w+)}")
_NAMES = frozenset({"tx", "reads", "caller", "body", "query", "db", "request", "state"})
_KEY = re.compile(r"[\w-]{8,128}")
# What a caller may see is for that caller, and some of it is a key: nobody on the way keeps it.
_NOT_KEPT = {"cache-control": "no-store"}
MAX_BODY_BYTES = 512 * 1024 * 1024


class Public(StrEnum):
    """Why a route asks for no token."""

    HEALTH = "health"  # Probes run before anybody can sign in; tells nothing of the contents.
    SIGN_IN = "sign-in"  # The way to a token; the body carries a secret of its own.
    DESCRIPTION = "description"  # What the service is and which keys it signs with.


class BadBody(BadInput):
    """The body is not what this address expects."""

    code = "bad-body"


class BadParameter(BadInput):
    """A parameter of the address is not understood."""

    code = "bad-parameter"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One verb at one address, with everything needed to serve and to describe it."""

    system: str
    method: str
    path: str
    verb: Verb
    scope: Scope | Public
    status: int
    asks: dict[str, Any]  # Parameter name -> annotation.
    answer: Any
    body_type: str  # The media type of the body, when there is one.
    once: bool  # Whether a repeated request, by its Idempotency-Key, gets the first answer again.

    @property
    def path_names(self) -> list[str]:
        return _PATH_NAME.findall(self.path)

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.verb) or "").split("\n")[0]


class Routes:
    """The routes of one system, collected by its `routes.py`."""

    def __init__(self, system: str) -> None:
        self.system = system
        self.all: list[Route] = []

    def get(self, path: str, *, scope: Scope | Public) -> Callable[[Verb], Verb]:
        return self._add("GET", path, scope, 200, "")

    def post(
        self,
        path: str,
        *,
        scope: Scope | Public,
        status: int = 200,
        body_type: str = "application/json",
        once: bool = False,
    ) -> Callable[[Verb], Verb]:
        """`once` is for a verb that cannot be done twice; it must ask for `tx` and `caller`."""
        return self._add("POST", path, scope, status, body_type, once=once)

    def put(
        self, path: str, *, scope: Scope | Public, status: int = 200, body_type: str = "application/json"
    ) -> Callable[[Verb], Verb]:
        return self._add("PUT", path, scope, status, body_type)

    def _add(
        self, method: str, path: str, scope: Scope | Public, status: int, body_type: str, *, once: bool = False
    ) -> Callable[[Verb], Verb]:
        def keep(verb: Verb) -> Verb:
            asks = typing.get_type_hints(verb)
            answer = asks.pop("return", None)
            unknown = set(asks) - _NAMES - set(_PATH_NAME.findall(path))
            if unknown:
                raise TypeError(f"{verb.__qualname__} asks for {sorted(unknown)}, which no route can give")
            self.all.append(
                Route(
                    system=self.system, method=method, path=path, verb=verb, scope=scope, status=status,
                    asks=asks, answer=answer, body_type=body_type if "body" in asks else "", once=once,
                )
            )  # fmt: skip
            return verb

        return keep


class Endpoint:
    """Serve one route: authorise, parse, open the transaction, call the verb, encode."""

    def __init__(
        self, route: Route, db: Database, state: Any, authenticate: Callable[[Request], Awaitable[Caller]]
    ) -> None:
        self.route = route
        self.db = db
        self.state = state
        self.authenticate = authenticate
        self.encode = msgspec.json.Encoder(enc_hook=_encode_other).encode
        body = route.asks.get("body")
        self.decode_body = None if body in (None, bytes) else msgspec.json.Decoder(body).decode

    async def __call__(self, request: Request) -> Response:
        route, asks = self.route, self.route.asks
        given: dict[str, Any] = {}
        if isinstance(route.scope, Scope):
            caller = await self.authenticate(request)
            caller.require(route.scope)
            request.scope["caller"] = caller
            if "caller" in asks:
                given["caller"] = caller
        for name in route.path_names:
            given[name] = _parameter(name, request.path_params[name], asks[name])
        if "query" in asks:
            given["query"] = query_of(request, asks["query"])
        if "body" in asks:
            given["body"] = self._body(await read_body(request))
        for name, value in (("request", request), ("db", self.db), ("state", self.state)):
            if name in asks:
                given[name] = value
        key = request.headers.get("idempotency-key", "") if route.once else ""
        if key:
            return await self._once(caller, key, given)
        if "tx" in asks:
            async with self.db.transaction() as tx:
                answer = await route.verb(tx=tx, **given)
        elif "reads" in asks:
            async with self.db.statements() as reads:
                answer = await route.verb(reads=reads, **given)
        else:
            answer = await route.verb(**given)
        return self._respond(answer)

    async def _once(self, caller: Caller, key: str, given: dict[str, Any]) -> Response:
        """Carry the request out, or give the answer that it got before."""
        if not _KEY.fullmatch(key):
            raise BadParameter("The Idempotency-Key must have 8 to 128 letters, digits, and - or _.")
        route = self.route
        async with self.db.transaction() as tx:
            body = await repeats.earlier_answer(tx, caller, key, route.path)
            if body is None:
                body = self.encode(await route.verb(tx=tx, **given))
                await repeats.keep_answer(tx, caller, key, route.path, body)
        return Response(body, route.status, _NOT_KEPT, media_type="application/json")

    def _body(self, raw: bytes) -> Any:
        if self.decode_body is None:
            return raw
        try:
            return self.decode_body(raw)
        except msgspec.ValidationError as error:
            raise BadBody(f"The body is refused: {plain(error)}", **fault_of(error)) from None
        except msgspec.DecodeError as error:
            raise BadBody(f"The body is not JSON: {error}") from None
        except RecursionError:
            raise BadBody("The body is refused: it is nested too deep.") from None

    def _respond(self, answer: Any) -> Response:
        if isinstance(answer, Response):
            return answer
        if answer is None:
            return Response(status_code=204)
        return Response(self.encode(answer), self.route.status, _NOT_KEPT, media_type="application/json")


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body, or BodyTooLarge before more than `limit` bytes were kept."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise BodyTooLarge(limit_bytes=limit)
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise BodyTooLarge(limit_bytes=limit)
            parts.append(part)
    except ClientDisconnect:
        raise BadBody("The connection was closed before the body was complete.") from None
    return b"".join(parts)


def query_of(request: Request, model: type[Any]) -> Any:
    """The query string as `model`; a parameter that the model declares as a list may be given many times."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(model)}
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name not in fields:
            raise BadParameter(f"There is no parameter {name!r} here; known: {', '.join(fields)}.", field=name)
        if _is_list(fields[name].type):
            given.setdefault(name, []).append(value)
        else:
            given[name] = value
    try:
        return msgspec.convert(given, model, strict=False)
    except msgspec.ValidationError as error:
        raise BadParameter(f"The parameters are refused: {plain(error)}", **fault_of(error)) from None


def _is_list(kind: Any) -> bool:
    """Also where the list's length is bounded."""
    bare = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    return typing.get_origin(bare) is list


def _parameter(name: str, text: str, kind: Any) -> Any:
    try:
        return msgspec.convert(text, kind.__supertype__ if hasattr(kind, "__supertype__") else kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadParameter(f"{name} is {text!r} in the address: {error}", field=name) from None


def plain(error: msgspec.ValidationError) -> str:
    """msgspec's sentence with the field first: `cores: Expected int >= 1`."""
    text, _, where = str(error).partition(" - at `$")
    where = where.rstrip("`").lstrip(".")
    return f"{where}: {text}" if where else text


def fault_of(error: msgspec.ValidationError) -> dict[str, str]:
    where = str(error).partition(" - at `$")[2].rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `(.+?)`", str(error)) or re.search(r"required field `(.+?)`", str(error))
    field = ".".join(part for part in (where, unknown.group(1) if unknown else "") if part)
    return {"field": field} if field else {}


def _encode_other(value: Any) -> Any:
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


class State:
    """The parts of a running server, each found by its type: `state[Settings]`, `state[Signals]`."""

    def __init__(self, *parts: Any) -> None:
        self._parts = {type(part): part for part in parts}

    def __getitem__(self, kind: type[T]) -> T:
        return typing.cast(T, self._parts[kind])
