"""HTML for people: one look, no scripts, and headers that let nobody else use our pages.

    return pages.page("consent.html", form_targets=[uri], client=client, roles=roles)

Templates lie in `templates/` beside the routes that show them, and extend `base.html`. What they are given is escaped.
"""

import functools
import hashlib
import importlib.resources
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from spinor.errors import SpinorError

_STYLE = importlib.resources.files(__package__).joinpath("templates", "style.css").read_text(encoding="utf-8")
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PLACES = sorted(Path(__file__).parents[1].glob("*/templates"))

_templates = Environment(
    loader=FileSystemLoader(_PLACES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["style"] = Markup(_STYLE)  # noqa: S704  Our own file, and not what somebody sent.

_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def page(template: str, *, status: int = 200, form_targets: Sequence[str] = (), **facts: Any) -> Response:
    """The template as a page. `form_targets` are addresses elsewhere to which an answer to its form may redirect."""
    content = _templates.get_template(template).render(facts)
    return Response(content, status, {**_HEADERS, "content-security-policy": _policy(form_targets)}, "text/html")


def redirect(address: str) -> Response:
    """Go there with a GET (303), whatever the method was, and say nowhere where you came from."""
    return RedirectResponse(address, 303, {**_HEADERS, "content-security-policy": _policy(())})


def problem_page(error: SpinorError, advice: str = "") -> Response:
    """What went wrong, as a page."""
    return page("problem.html", status=error.status, message=error.message, advice=advice, code=error.code)


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer, and no program."""
    return "text/html" in request.headers.get("accept", "")


def for_people(verb: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """A route whose errors are pages in a browser, and problem documents for everybody else."""
    if "tx" in verb.__annotations__:
        raise TypeError(f"{verb.__qualname__} must open its transactions itself: its errors would be committed")

    @functools.wraps(verb)
    async def answered(**given: Any) -> Response:
        try:
            return await verb(**given)
        except SpinorError as error:
            if error.status >= 500 or not wants_page(given["request"]):
                raise
            return problem_page(error)

    return answered


def _policy(form_targets: Sequence[str]) -> str:
    """Browsers hold form-action also against the redirect that answers a form, so its target must stand there."""
    targets = " ".join(["'self'", *sorted({_origin(target) for target in form_targets})])
    return (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {targets}; "
        "frame-ancestors 'none'; base-uri 'none'"
    )


def _origin(address: str) -> str:
    """As the policy writes it, which has no words for an IPv6 address: there its scheme must do."""
    parts = urlsplit(address)
    return f"{parts.scheme}:" if parts.netloc.startswith("[") else f"{parts.scheme}://{parts.netloc}"
