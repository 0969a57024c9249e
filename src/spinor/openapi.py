"""OpenAPI 3.1 out of the declared routes: the document for programs, and one page of it for people."""

import html
import inspect
import re
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from spinor import __version__
from spinor.access import Scope
from spinor.http import Route

_REFERENCE = "#/components/schemas/{name}"


def document(routes: list[Route]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    types = [t for route in routes for t in (_body_model(route), _answer_model(route)) if t is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schema_of = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    components["Problem"] = _PROBLEM
    return {
        "openapi": "3.1.0",
        "info": {"title": "Spinor", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details; `code` is stable, `retry` says whether the same call can succeed later.",
    "required": ["type", "title", "status", "detail", "code", "retry"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "retry": {"type": "boolean"},
        "request_id": {"type": ["string", "null"]},
        "field": {"type": "string"},
    },
}


def _body_model(route: Route) -> Any:
    body = route.asks.get("body")
    return None if body in (None, bytes, Request) else body


def _answer_model(route: Route) -> Any:
    return None if route.answer in (None, type(None), Response) else route.answer


def _operation(route: Route, schema_of: dict[int, Any]) -> dict[str, Any]:
    body, answer = _body_model(route), _answer_model(route)
    operation: dict[str, Any] = {
        "operationId": route.verb.__name__,
        "tags": [route.system],
        "summary": route.summary,
        "description": inspect.getdoc(route.verb) or "",
        "parameters": _parameters(route),
        "responses": {
            str(route.status if answer is not None else 204 if route.answer in (None, type(None)) else 200): {
                "description": "Done.",
                **({"content": {"application/json": {"schema": schema_of[id(answer)]}}} if answer is not None else {}),
            },
            "default": {
                "description": "What went wrong.",
                "content": {"application/problem+json": {"schema": {"$ref": _REFERENCE.format(name="Problem")}}},
            },
        },
    }
    if isinstance(route.scope, Scope):
        operation["security"] = [{"bearer": [route.scope.value]}]
    else:
        operation["security"] = []
    if route.body_type:
        schema = schema_of[id(body)] if body is not None else {"type": "string", "format": "binary"}
        operation["requestBody"] = {"required": True, "content": {route.body_type: {"schema": schema}}}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": msgspec.json.schema(_plain(route.asks[name]))}
        for name in route.path_names
    ]
    query = route.asks.get("query")
    for field in msgspec.structs.fields(query) if query else ():
        found.append(
            {
                "name": field.encode_name,
                "in": "query",
                "required": field.required,
                "schema": msgspec.json.schema(field.type),
            }
        )
    return found


def _plain(kind: Any) -> Any:
    return getattr(kind, "__supertype__", kind)


def page(routes: list[Route]) -> str:
    """The routes as one self-contained HTML page: no script, nothing fetched from elsewhere."""
    systems: dict[str, list[Route]] = {}
    for route in routes:
        systems.setdefault(route.system, []).append(route)
    sections = "".join(
        f"<section><h2>{html.escape(system)}</h2>{''.join(map(_row, members))}</section>"
        for system, members in systems.items()
    )
    return _PAGE.format(version=__version__, sections=sections)


def _row(route: Route) -> str:
    scope = route.scope.value if isinstance(route.scope, Scope) else f"public ({route.scope.value})"
    notes = html.escape(inspect.getdoc(route.verb) or "").replace("\n\n", "<br><br>")
    body, answer = _body_model(route), _answer_model(route)
    models = "".join(
        f"<dt>{label}</dt><dd><code>{html.escape(_name(model))}</code></dd>"
        for label, model in (("body", body), ("answer", answer), ("query", route.asks.get("query")))
        if model is not None
    )
    return (
        f"<article><h3><b>{route.method}</b> {html.escape(route.path)}</h3><p>{notes}</p>"
        f"<dl><dt>scope</dt><dd><code>{scope}</code></dd>{models}</dl></article>"
    )


def _name(model: Any) -> str:
    return re.sub(
        r"\b(?:\w+\.)+(\w+)", r"\1", getattr(model, "__name__", str(model)) if isinstance(model, type) else str(model)
    )


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Spinor {version}: the API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }}
h2 {{ margin-top: 3rem; border-bottom: 1px solid #d0d7de }} h3 {{ font: 600 1rem ui-monospace, monospace }}
h3 b {{ display: inline-block; min-width: 3.5rem; color: #0b5cad }} article {{ padding: .25rem 0 .75rem }}
p {{ margin: .25rem 0 }} dl {{ display: grid; grid-template-columns: 5rem 1fr; margin: .25rem 0; color: #57606a }}
dd {{ margin: 0 }} code {{ font: .9rem ui-monospace, monospace }}
</style>
<h1>Spinor {version}</h1>
<p>Every route of the service. Programs read <a href="/api/openapi.json">openapi.json</a> (OpenAPI 3.1).
Errors are RFC 9457 problem documents: <code>code</code> is stable, <code>retry</code> says whether to try again.</p>
{sections}</html>"""
