"""From a line that was taken apart to the words that the command gets: absolute paths, expanded patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spinor.catalog.cli.shell.arguments import Given, Kind, query_words
from spinor.catalog.cli.shell.paths import Listing, expand, resolve
from spinor.catalog.cli.shell.words import Word
from spinor.errors import BadInput, NotFound
from spinor.terminal import printable

# Verbs for which `/` is the top of one's VO: they only look.
_LOOKING = {"ls", "find", "usage", "dataset"}


@dataclass(frozen=True, slots=True)
class Here:
    """Where relative paths begin, and who expands patterns."""

    cwd: str
    top: str
    listing: Listing


def words_of(given: Given, here: Here) -> list[str]:
    """The command's words: options first, then arguments. Raises NotFound for a pattern that is like nothing."""
    found = [*given.names]
    for kind, word in given.options:
        if kind in (Kind.LFN, Kind.NAME, Kind.LOCAL):
            found.append(_only(word, list(_resolved(kind, word, given, here))))
        else:
            found.append(word.text)
    arguments = [text for kind, word in given.arguments if kind is not Kind.QUERY
                 for text in _resolved(kind, word, given, here)]  # fmt: skip
    arguments += query_words([word for kind, word in given.arguments if kind is Kind.QUERY])
    if any(text.startswith("-") and text != "-" for text in arguments):
        found.append("--")
    return found + arguments


def _only(word: Word, found: list[str]) -> str:
    if len(found) != 1:
        raise BadInput(f"{printable(word.text)} is {len(found):,} paths where one is needed.")
    return found[0]


def _resolved(kind: Kind, word: Word, given: Given, here: Here) -> Iterator[str]:
    text = word.text
    if kind in (Kind.LFN_OR_KEY, Kind.LFN_OR_PAIR):
        is_path = text.startswith(("/", "./", "../")) or text in (".", "..")
        kind = Kind.LFN if is_path or (kind is Kind.LFN_OR_PAIR and "=" not in text) else Kind.WORD
    if kind is Kind.LFN and text != "-":
        if text == "/" and given.names[0] in _LOOKING:
            yield here.top
        elif given.names == ["ls"] and word.is_pattern and _is_plain_pattern(word):
            yield resolve(text, here.cwd, here.top)  # The server expands it, page by page.
        else:
            yield from (path.rstrip("/") or "/" for path in expand(word, here.cwd, here.top, here.listing))
    elif kind is Kind.NAME and text != "-":
        yield resolve(text, here.cwd, here.top)
    elif kind is Kind.LOCAL and text != "-":
        yield from _local(word)
    else:
        yield text


def _is_plain_pattern(word: Word) -> bool:
    """Whether only its last part has wildcards, and those that the server knows."""
    above, _, last = word.pattern.rpartition("/")
    return word.pattern == word.text and "[" not in last and not any(mark in above for mark in "*?[")


def _local(word: Word) -> list[str]:
    if not word.is_pattern:
        return [str(Path(word.text).expanduser()) + ("/" if word.text.endswith("/") else "")]
    found = sorted(glob.glob(str(Path(word.pattern).expanduser())))  # noqa: PTH207 (relative names stay as typed)
    if not found:
        raise NotFound(f"Nothing on this machine is like {printable(word.text)}; see `lls`.")
    return found
