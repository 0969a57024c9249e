"""What the pages of federation share: errors of providers are pages too, and forms are read alike."""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from spinor.errors import BadInput
from spinor.identity.federation.provider import ProviderUnavailable, ProviderWrong
from spinor.identity.oauth import pages

_log = logging.getLogger("spinor.identity")


def for_people(verb: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """As the pages of the authorization server: errors are pages in a browser. So are those of providers, which are
    nobody's fault here, and are written to the log for the operators."""
    shown = pages.for_people(verb)

    @functools.wraps(verb)
    async def answered(**given: Any) -> Response:
        try:
            return await shown(**given)
        except (ProviderUnavailable, ProviderWrong) as error:
            _log.warning(error.message, extra={"code": error.code})
            if not pages.wants_page(given["request"]):
                raise
            return pages.problem_page(error, "The other ways to sign in are not affected by this.")

    return answered


def query_of(request: Request) -> dict[str, str]:
    """The parameters of the address; BadInput when one is there twice, which no honest answer has."""
    pairs = request.query_params.multi_items()
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadInput("A parameter of the address is there twice.")
    return found
