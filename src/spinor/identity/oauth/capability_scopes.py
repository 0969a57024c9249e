"""The grammar of capability scopes (WLCG Common JWT Profile 1.3): what one allows, part by part of its path.

Pure. A path is compared as the names that it stands for, never as text: `/john` does not allow `/johnathan`, and what
two escapes write differently is one file. Every path has exactly one spelling that is written into a token.
"""

import re
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

STORAGE_ACTIONS = ("storage.read", "storage.create", "storage.modify", "storage.stage", "storage.poll")
COMPUTE_ACTIONS = ("compute.read", "compute.modify", "compute.create", "compute.cancel")
GROUPS = "wlcg.groups"
LONGEST_SCOPE = 2048
_INCLUDED = {"storage.modify": {"storage.create"}, "storage.stage": {"storage.poll"}}
_PATH = re.compile(r"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")  # RFC 3986: pchar and slashes.
_PLAIN = "-._~!$&'()*+,;=:@"


class Capability(NamedTuple):
    """An action, for storages below a path. A path that ends with a slash stands for a directory only."""

    action: str
    names: tuple[str, ...] = ()
    is_directory: bool = False

    @property
    def text(self) -> str:
        """The scope as it is written into tokens."""
        if self.action in COMPUTE_ACTIONS:
            return self.action
        path = "/" + "/".join(quote(name, safe=_PLAIN) for name in self.names)
        return f"{self.action}:{path}" + ("/" if self.is_directory and self.names else "")

    def covers(self, other: "Capability") -> bool:
        """Whether whoever has this has the other too."""
        if other.action != self.action and other.action not in _INCLUDED.get(self.action, ()):
            return False
        if other.names[: len(self.names)] != self.names:
            return False
        # `/a/` is the directory and what is in it, but no file that is called a.
        return len(other.names) > len(self.names) or other.is_directory or not self.is_directory


def capability(scope: str) -> Capability:
    """A scope that was read; ValueError says in which way it is none."""
    action, colon, path = scope.partition(":")
    if len(scope) > LONGEST_SCOPE:
        raise ValueError(f"is longer than {LONGEST_SCOPE} characters")
    if action in COMPUTE_ACTIONS:
        if colon:
            raise ValueError(f"has a path, which {action} never has")
        return Capability(action)
    if action not in STORAGE_ACTIONS:
        raise ValueError(f"is none of {', '.join((*STORAGE_ACTIONS, *COMPUTE_ACTIONS))}")
    if not path:
        raise ValueError(f"has no path; write {action}:/ for everything")
    if not _PATH.fullmatch(path):
        raise ValueError("has a path that does not begin with / or has characters that must be escaped")
    names = path[1:].split("/")
    is_directory = names[-1] == ""
    return Capability(action, tuple(_name(part) for part in (names[:-1] if is_directory else names)), is_directory)


def _name(part: str) -> str:
    """One name of a path without its escapes; ValueError when no file of a storage can be called so."""
    try:
        name = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise ValueError("has an escape that is not UTF-8") from None
    if not name:
        raise ValueError("has two slashes together")
    if name in (".", ".."):
        raise ValueError("has . or .. as a name")
    if "/" in name or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise ValueError("has an escaped slash or control character")
    return name


def is_allowed(asked: Capability, allowed: list[Capability]) -> bool:
    return any(each.covers(asked) for each in allowed)
