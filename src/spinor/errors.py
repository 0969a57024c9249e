"""The base of every error: what HTTP status, exit code and advice about retrying it carries.

The class docstring is the default message. Facts given as keywords travel with the problem document (RFC 9457), so a
program need not parse the sentence.
"""

from typing import Any, ClassVar

# The exit code of the command line, by HTTP status; anything else is 1.
EXIT_CODES = {400: 2, 401: 4, 403: 4, 404: 3, 409: 5, 410: 5, 413: 2, 422: 2, 429: 75, 503: 75, 507: 75}


class SpinorError(Exception):
    """Something went wrong inside Spinor."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    retry: ClassVar[bool] = False  # Whether the same call can succeed later without a change.

    def __init__(self, message: str | None = None, **facts: Any) -> None:
        super().__init__(message or (self.__doc__ or type(self).__name__).strip())
        self.facts = facts

    @property
    def message(self) -> str:
        return str(self.args[0])

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.status, 1)


class BadInput(SpinorError):
    """The request is not understood."""

    status, code = 422, "bad-input"


class BodyTooLarge(SpinorError):
    """The body is larger than this service accepts; send it in parts."""

    status, code = 413, "body-too-large"


class NotSignedIn(SpinorError):
    """You are not signed in; run `spinor login`."""

    status, code = 401, "not-signed-in"


class Denied(SpinorError):
    """You may not do this."""

    status, code = 403, "denied"


class NotFound(SpinorError):
    """There is no such thing, or you may not see it."""

    status, code = 404, "not-found"


class MethodNotAllowed(SpinorError):
    """This address does not answer that method."""

    status, code = 405, "method-not-allowed"


class Conflict(SpinorError):
    """The present state does not allow this."""

    status, code = 409, "conflict"


class Unavailable(SpinorError):
    """The service cannot answer just now; try again in a moment."""

    status, code, retry = 503, "unavailable", True


class ServerUnreachable(Unavailable):
    """The server does not answer; is it up (`spinor status`), and is its address right (`spinor whoami`)?"""

    code = "server-unreachable"
