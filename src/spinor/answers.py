"""What a server answers: a model, a problem (RFC 9457) as an exception, or a large body that is read piece by piece."""

import contextlib
import http.client
import io
from collections.abc import Mapping
from typing import Any, TypeVar, overload

import msgspec

from spinor.errors import ServerUnreachable, SpinorError

T = TypeVar("T")


class ServerNotTrusted(SpinorError):
    """The server's certificate is not trusted; set SPINOR_CA_FILE to the file of its certificate authority."""

    code = "server-not-trusted"


class TokenAnswer(msgspec.Struct):
    """What the token endpoint gives (RFC 6749 section 5.1)."""

    access_token: str
    expires_in: int
    refresh_token: str | None = None
    scope: str = ""


class UnexpectedAnswer(SpinorError):
    """The server's answer is not one of Spinor's; is the address right?"""

    code = "unexpected-answer"


class Problem(msgspec.Struct):
    """An RFC 9457 document as the server writes it."""

    detail: str = ""
    code: str = "internal"
    status: int = 500
    retry: bool = False
    error_description: str = ""  # The token endpoint writes RFC 6749 errors.


class RemoteError(SpinorError):
    """The server refused."""

    def __init__(self, status: int, problem: Problem, body: bytes) -> None:
        super().__init__(problem.detail or problem.error_description or f"The server answered {status}.")
        self.status, self.code, self.retry = status, problem.code, problem.retry  # type: ignore[misc]
        with contextlib.suppress(msgspec.MsgspecError):
            self.facts = msgspec.json.decode(body, type=dict)


class BrokenOff(ServerUnreachable):
    """The answer broke off in the middle; ask again."""

    code = "answer-broken-off"


class Body(io.BufferedReader):
    """The body of an answer, to be read piece by piece. Raises BrokenOff when it ends before its end."""

    def __init__(self, answer: Any, headers: Mapping[str, str]) -> None:
        super().__init__(_Pieces(answer), 1 << 18)
        self.headers = headers


class _Pieces(io.RawIOBase):
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return int(self._answer.readinto(buffer))
        except (OSError, http.client.HTTPException) as error:
            raise BrokenOff(f"The answer broke off ({error or type(error).__name__}); ask again.") from None


def error_of(status: int, data: bytes) -> RemoteError:
    try:
        problem = msgspec.json.decode(data, type=Problem)
    except msgspec.MsgspecError:
        problem = Problem(detail=f"The server answered {status}, and not in Spinor's way; is the address right?")
    return RemoteError(status, problem, data)


@overload
def decoded(data: bytes, answer: type[T]) -> T: ...
@overload
def decoded(data: bytes, answer: type[T] | None) -> T | bytes: ...
def decoded(data: bytes, answer: type[T] | None) -> T | bytes:
    if answer is None:
        return data
    try:
        return msgspec.json.decode(data, type=answer)
    except msgspec.MsgspecError as error:
        raise UnexpectedAnswer(f"The server's answer is not understood ({error}); is it of another version?") from None
