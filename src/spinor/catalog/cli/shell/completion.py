"""What a word under the cursor could become. Candidates are whole words, as they would be typed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spinor.catalog.cli.shell.arguments import Kind
from spinor.catalog.cli.shell.paths import resolve
from spinor.catalog.cli.shell.words import Word, quoted, unfinished

if TYPE_CHECKING:
    from spinor.catalog.cli.shell.paths import Named


@dataclass(frozen=True, slots=True)
class Place:
    """Where relative paths begin, and where the names come from."""

    cwd: str
    top: str
    first_entries: Callable[[str, str], Iterable[Named]]  # Of a directory, whose names begin so.
    known: Callable[[Kind], Iterable[str]]  # Storage elements, keys, users, groups.


def candidates(word: Word, kind: Kind, place: Place) -> list[str]:
    """What the word could become, given what it is."""
    match kind:
        case Kind.LFN | Kind.NAME:
            return _paths(word, place)
        case Kind.LFN_OR_PAIR if "=" not in word.typed:
            return _paths(word, place) + _keys(word, place, "=")
        case Kind.LFN_OR_KEY:
            return _paths(word, place) + _keys(word, place, " ")
        case Kind.LOCAL:
            return local_paths(word)
        case Kind.QUERY:
            return _keys(word, place, " ")
        case Kind.PAIR if "=" not in word.typed:
            return _keys(word, place, "=")
        case Kind.SE | Kind.KEY | Kind.USER | Kind.GROUP:
            before, comma, last = word.text.rpartition(",")
            return [
                typed_as(word.typed, before + comma + name, " ")
                for name in sorted(place.known(kind))
                if name.startswith(last)
            ]
    return []


def _keys(word: Word, place: Place, end: str) -> list[str]:
    return [typed_as(word.typed, name, end) for name in sorted(place.known(Kind.KEY)) if name.startswith(word.text)]


def _paths(word: Word, place: Place) -> list[str]:
    above, slash, beginning = word.text.rpartition("/")
    if beginning == "..":
        return [typed_as(word.typed, word.text, "/")]
    directory = resolve(above or slash or ".", place.cwd, place.top)
    found = []
    for entry in place.first_entries(directory.rstrip("/") or "/", beginning):
        is_directory = entry.kind == "directory"
        found.append(typed_as(word.typed, above + slash + entry.name, "/" if is_directory else " "))
    return found


def local_paths(word: Word) -> list[str]:
    above, slash, beginning = word.text.rpartition("/")
    directory = Path(above or slash or ".").expanduser()
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(beginning) and (beginning or not entry.name.startswith(".")):
                    end = "/" if entry.is_dir() else " "
                    found.append(typed_as(word.typed, above + slash + entry.name, end))
    except OSError:
        return []
    return sorted(found)


def verbs(word: Word, names: Iterable[str]) -> list[str]:
    return [f"{name} " for name in names if name.startswith(word.text)]


def typed_as(typed: str, text: str, end: str) -> str:
    """The text with its end, in the manner of quoting that the typed beginning has."""
    mark = typed[:1]
    if mark not in ("'", '"'):
        return quoted(text) + end
    body = text if mark == "'" else text.replace("\\", "\\\\").replace('"', '\\"')
    return f"{mark}{body}" + (mark + end if end == " " else end)


def complete(line: str, begin: int, words_for: Callable[[Sequence[Word], Word], list[str]]) -> list[str]:
    """What the line editor may put from `begin` on, which lies within the last word of the line up to the cursor."""
    words, word = unfinished(line)
    found = []
    for candidate in words_for(words, word):
        # The editor keeps what is before `begin`: a candidate that would change it cannot be offered.
        kept = max(begin - word.start, 0)
        if candidate.startswith(line[word.start : word.start + kept]):
            found.append(candidate[kept:])
    return found
