"""Paths as they are typed: relative ones, . and .., and patterns against the server's lists."""

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterable
from glob import escape
from typing import Protocol

from spinor.catalog.cli.shell.words import Word, has_wildcards
from spinor.errors import NotFound, SpinorError
from spinor.terminal import printable

_CLASS = re.compile(r"\[!?\]?[^]]*\]")


class Named(Protocol):
    """An entry of a directory."""

    @property
    def name(self) -> str: ...
    @property
    def lfn(self) -> str: ...
    @property
    def kind(self) -> str: ...


Listing = Callable[[str, str], Iterable[Named]]  # Of a directory's entries that are like a glob of * and ?.


def resolve(text: str, cwd: str, top: str) -> str:
    """The absolute path of what was typed; a slash at its end stays, and .. does not lead above the top."""
    path = posixpath.normpath(text if text.startswith("/") else f"{cwd}/{text}").replace("//", "/")
    if not text.startswith("/") and not f"{path}/".startswith(f"{top}/"):
        return top
    return f"{path}/" if text.endswith("/") and path != "/" else path


def expand(word: Word, cwd: str, top: str, listing: Listing) -> list[str]:
    """The paths that a pattern names, in order; a word without wildcards names itself. Raises NotFound for nothing."""
    if not word.is_pattern:
        return [resolve(word.text, cwd, top)]
    pattern = resolve(word.pattern, escape(cwd), escape(top))
    parts = pattern.strip("/").split("/")
    found, searching = [""], False
    for number, part in enumerate(parts):
        searching = searching or has_wildcards(part)
        if searching:
            whole = number == len(parts) - 1 and not pattern.endswith("/")
            found = [path for above in found for path in _like(listing, above or "/", part, directories_only=not whole)]
        else:
            found = [f"{above}/{_unescaped(part)}" for above in found]
    if not found:
        raise NotFound(f"Nothing is like {printable(word.text)}; quote it if its wildcards are meant as they stand.")
    return found


def _like(listing: Listing, directory: str, pattern: str, *, directories_only: bool) -> list[str]:
    try:
        # The server knows only * and ?; what it gives too much is left out here.
        entries = list(listing(directory, _CLASS.sub("?", pattern)))
    except SpinorError as error:
        if error.status != NotFound.status:
            raise
        return []
    above = directory.rstrip("/")
    return sorted(
        entry.lfn
        for entry in entries
        if fnmatch.fnmatchcase(entry.name, pattern)
        and entry.lfn == f"{above}/{entry.name}"  # A file lists itself.
        and (entry.kind == "directory" or not directories_only)
    )


def _unescaped(part: str) -> str:
    return re.sub(r"\[([*?[])\]", r"\1", part)
