"""The composition root: one ASGI application out of settings and each system's routes."""

import asyncio
import contextlib
import gc
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from spinor import __version__, logs, openapi
from spinor.access import Caller
from spinor.blobs import Blobs
from spinor.catalog.routes import routes as catalog_routes
from spinor.catalog.store import ERRORS as CATALOG_ERRORS
from spinor.configuration.routes import routes as configuration_routes
from spinor.configuration.store import ERRORS as CONFIGURATION_ERRORS
from spinor.db import Database, Tx
from spinor.errors import MethodNotAllowed, NotFound, SpinorError
from spinor.http import Endpoint, Public, Route, Routes, State
from spinor.identity.delegation.certificates import Certificates
from spinor.identity.federation.provider import Upstreams
from spinor.identity.federation.store import ERRORS as FEDERATION_ERRORS
from spinor.identity.oauth.authentication import Guesses
from spinor.identity.routes import routes as identity_routes
from spinor.identity.store import ERRORS as IDENTITY_ERRORS
from spinor.identity.tokens import CHANGED, KeyRing, Verifier
from spinor.jobs import service as jobs
from spinor.jobs.errors import ERRORS as JOBS_ERRORS
from spinor.jobs.logs.events import Streams
from spinor.jobs.routes import routes as jobs_routes
from spinor.jobs.service import Matcher
from spinor.pilots import service as pilots
from spinor.pilots.routes import routes as pilots_routes
from spinor.pilots.store import ERRORS as PILOTS_ERRORS
from spinor.resources.routes import routes as resources_routes
from spinor.resources.service import StatusBoard
from spinor.resources.status.service import CHANGED as STATUS_CHANGED
from spinor.resources.store import ERRORS as RESOURCES_ERRORS
from spinor.settings import Settings
from spinor.signals import Signals
from spinor.storage.routes import routes as storage_routes

_log = logging.getLogger("spinor.http")
_REQUEST_ID = re.compile(r"[\w.-]{1,64}")

CONSTRAINT_ERRORS = {
    **IDENTITY_ERRORS,
    **FEDERATION_ERRORS,
    **RESOURCES_ERRORS,
    **CONFIGURATION_ERRORS,
    **CATALOG_ERRORS,
    **JOBS_ERRORS,
    **PILOTS_ERRORS,
}

# Who else than people may hold tokens, by the beginning of `sub`.
BEARERS = {"pilot": pilots.caller_of_pilot, "payload": jobs.caller_of_payload}

service_routes = Routes("service")


class Health(msgspec.Struct, frozen=True):
    status: str
    version: str


@service_routes.get("/api/health", scope=Public.HEALTH)
async def health(reads: Tx) -> Health:
    """Say that the server and its database answer."""
    await reads.execute("SELECT 1")
    return Health("ok", __version__)


@service_routes.get("/api/openapi.json", scope=Public.DESCRIPTION)
async def openapi_document() -> Response:
    """The OpenAPI 3.1 description of every route."""
    return Response(msgspec.json.encode(openapi.document(all_routes())), media_type="application/json")


@service_routes.get("/api/docs", scope=Public.DESCRIPTION)
async def docs_page() -> Response:
    """The same description as a page to read."""
    return Response(openapi.page(all_routes()), media_type="text/html; charset=utf-8")


def all_routes() -> list[Route]:
    """Every route of the service, in the order of the systems."""
    systems = (
        service_routes,
        identity_routes,
        resources_routes,
        configuration_routes,
        catalog_routes,
        storage_routes,
        jobs_routes,
        pilots_routes,
    )
    return [route for system in systems for route in system.all]


def create_app(settings: Settings) -> Starlette:
    """The whole service for one process. Opens the database when it starts, closes it when it stops."""
    service = Service()
    blobs = Blobs.of(settings)  # What is wrong with it is one clear sentence here, before anything is opened.

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        signals = Signals(settings.database_url)
        keys = KeyRing.load(settings.keys_dir)
        async with (
            Database.open(settings.database_url, size=settings.database_pool, errors=CONSTRAINT_ERRORS) as db,
            Database.open(settings.database_url, size=2, errors=CONSTRAINT_ERRORS, generic_plans=True) as intake_db,
            Database.open(settings.database_url, size=1, niceness=jobs.LOOKING_NICENESS) as watch_db,
            signals.listening(),
        ):
            verifier = Verifier(keys, settings.url, db, bearers=BEARERS)
            upstreams = Upstreams(settings.data_dir / "secrets" / "providers")
            matcher = Matcher()
            watch = jobs.Watch(watch_db, matcher.view)
            desk = pilots.Desk(db, keys, settings.url, matcher, watch)
            certificates, pulse, intake = Certificates(settings), pilots.Pulse(db), jobs.Intake(intake_db)
            parts = (matcher, desk, pulse, intake, StatusBoard(), upstreams, Guesses(), certificates, blobs, Streams())
            state = State(settings, signals, keys, verifier, *parts)
            forgetting = asyncio.create_task(forget_what_ended(signals, verifier), name="forget-what-ended")
            looking = asyncio.create_task(look_again(signals, state[StatusBoard]), name="look-again")
            marking = asyncio.create_task(jobs.keep_marking(db), name="keep-marking")
            app.state.signals = signals
            service.open(all_routes(), db, state, verifier.caller_of)
            settle_memory()
            yield
            forgetting.cancel()
            looking.cancel()
            marking.cancel()
            watch.stop()

    return Application(RequestLog(service), lifespan)


class Application(Starlette):
    """Starlette's life and state. A request goes straight to the service, which routes it and answers every error."""

    def __init__(self, requests: ASGIApp, lifespan: Lifespan[Starlette]) -> None:
        super().__init__(lifespan=lifespan)
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._requests(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def settle_memory() -> None:
    """What start-up made stays for ever: collecting it again and again doubles the cost of large answers."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def forget_what_ended(signals: Signals, verifier: Verifier) -> None:
    """Let no token be remembered past the moment at which somebody was suspended or a session ended."""
    async with signals.subscribed(CHANGED) as event:
        while not signals.closing:
            if await signals.wait(event, 3600):
                verifier.forget_all()


async def look_again(signals: Signals, board: StatusBoard) -> None:
    """Let no status of a site or element be remembered past its change."""
    async with signals.subscribed(STATUS_CHANGED) as event:
        while not signals.closing:
            if await signals.wait(event, 3600):
                board.forget()


class Service:
    """Find the endpoint of a request and turn whatever goes wrong into a problem document (RFC 9457)."""

    def __init__(self) -> None:
        self.fixed: dict[str, dict[str, Endpoint]] = {}
        self.patterns: list[tuple[re.Pattern[str], dict[str, Endpoint]]] = []

    def open(
        self, routes: list[Route], db: Database, state: State, caller_of: Callable[[Request], Awaitable[Caller]]
    ) -> None:
        patterns: dict[str, dict[str, Endpoint]] = {}
        for route in routes:
            table = patterns if route.path_names else self.fixed
            table.setdefault(route.path, {})[route.method] = Endpoint(route, db, state, caller_of)
        self.patterns = [
            (re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path)), methods) for path, methods in patterns.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self.endpoint(scope)(Request(scope, receive))
        except Exception as error:  # noqa: BLE001  The one place where every failure becomes an answer.
            response = problem(error)
        await response(scope, receive, send)

    def endpoint(self, scope: Scope) -> Endpoint:
        path: str = scope["path"]
        methods = self.fixed.get(path)
        if methods is None:
            for pattern, table in self.patterns:
                if match := pattern.fullmatch(path):
                    scope["path_params"] = match.groupdict()
                    methods = table
                    break
            else:
                raise NotFound(f"There is nothing at {path}; the addresses are described at /api/docs.")
        try:
            return methods[scope["method"]]
        except KeyError:
            raise MethodNotAllowed(f"{path} answers {', '.join(methods)} only.", allow=list(methods)) from None


def problem(error: Exception) -> Response:
    """The problem document of an error; a fault of ours is logged in full and shown without its inside."""
    if not isinstance(error, SpinorError):
        _log.exception("unexpected error", exc_info=error)
        error = SpinorError("Something went wrong inside Spinor; the log has it under this request id.")
    elif error.status >= 500:
        _log.error(error.message, extra={"code": error.code, "cause": repr(error.__cause__)})
    headers = {"cache-control": "no-store"}
    if error.retry:
        headers["retry-after"] = "2"
    if error.status == 401:
        # RFC 6750: no error is named to a caller who sent no token.
        fault = f', error="{error.facts["error"]}"' if "error" in error.facts else ""
        headers["www-authenticate"] = f'Bearer realm="spinor"{fault}'
    document = {
        "type": f"urn:spinor:problem:{error.code}",
        "title": " ".join((type(error).__doc__ or "").split()),
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "retry": error.retry,
        "request_id": logs.bound("request_id"),
        **error.facts,
    }
    body = msgspec.json.encode(document, enc_hook=str)
    return Response(body, error.status, headers, media_type="application/problem+json")


class RequestLog:
    """Give each request an id, one log line, and its time; the id goes back in X-Request-ID."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        started = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        with logs.bind(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                caller: Caller | None = scope.get("caller")
                level = logging.INFO if status < 500 else logging.ERROR
                if _log.isEnabledFor(level):
                    facts = dict(scope.get("path_params") or {})  # job_id, pilot_id, … as they stand in the address.
                    if caller:
                        facts |= {"vo": caller.vo, "user": caller.user}
                        facts |= {"pilot_id": caller.pilot_id} if caller.pilot_id else {}
                    _log.log(
                        level,
                        "request",
                        extra={
                            "method": scope["method"],
                            "path": scope["path"],
                            "status": status,
                            "duration_ms": round((time.perf_counter() - started) * 1000, 2),
                            **facts,
                        },
                    )
