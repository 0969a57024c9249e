"""What plugins do alike with the options of their elements: check them, and find the secret files that they name."""

import stat
from pathlib import Path
from typing import TypeVar

import msgspec

from spinor.pilots.plugin import BadOptions, ElementSettings, NodeOptions

T = TypeVar("T", bound=msgspec.Struct)


class PilotOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator says of an element's pilots, whichever plugin starts them; the factory reads it."""

    environment: dict[str, str] = {}  # Variables that they get.
    tags: list[str] = []  # What they offer beside cores and memory.
    idle_s: float = 15.0  # They leave after so long without work.
    drain_s: float = 20.0  # What SIGTERM leaves to their payloads.
    node: NodeOptions = NodeOptions()


def options_of(element: ElementSettings, of: type[T]) -> T:
    """The options as a struct; BadOptions names the wrong one. A struct's own ValueErrors are told alike."""
    try:
        return msgspec.convert(element.options, of)
    except msgspec.ValidationError as error:
        # The library ends its messages with " - at `$.name`"; people look for the name.
        raise wrong(element, str(error).replace("`$.", "`")) from None


def wrong(element: ElementSettings, what: str) -> BadOptions:
    return BadOptions(f"The options of computing element {element.name!r} are wrong: {what}.", element=element.name)


def check_name(element: ElementSettings, option: str, name: str) -> None:
    """That an option names a file below the service's secrets for elements, and no other."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise wrong(element, f"{option} must be the plain name of a file in secrets/computing, not {name!r}")


def secret_file(element: ElementSettings, option: str, name: str, *, private: bool = True) -> Path:
    """The file of this name below the service's secrets for elements; BadOptions when it cannot be used.

    One that is `private` must be of mode 0600; any other must not be writable by others.
    """
    check_name(element, option, name)
    path = element.secrets / name
    try:
        status = path.stat()
    except OSError as error:
        raise wrong(element, f"{option}: {path}: {error.strerror}") from None
    forbidden = 0o077 if private else 0o022
    if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) & forbidden:
        remedy = "chmod 600" if private else "chmod go-w"
        raise wrong(element, f"{option}: others may {'read' if private else 'change'} {path}; run {remedy} {path}")
    return path
