"""From a line to commands and their words, quoted as in a POSIX shell; `;` separates commands, `#` begins a comment."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape

from spinor.errors import BadInput

_PIECE = r"""\\.|'[^']*'|"(?:[^"\\]|\\.)*"|[^\s;'"\\]"""
_TOKEN = re.compile(rf"(?P<blank>\s+)|(?P<end>;)|(?P<comment>\#.*)|(?P<word>(?:{_PIECE})+)|(?P<open>.+)", re.DOTALL)
_PIECES = re.compile(_PIECE, re.DOTALL)
_WILD = re.compile(r"[*?]|\[[^]]+\]")
_UNSAFE = re.compile(r"([\s;'\"\\*?\[\]#])")


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command: as typed, what it says, and as a pattern, in which quoted wildcards are themselves."""

    typed: str
    text: str
    pattern: str
    start: int = 0  # Where it begins in its line.

    @property
    def is_pattern(self) -> bool:
        return has_wildcards(self.pattern)


def has_wildcards(pattern: str) -> bool:
    """Whether it can be like another text than the one that it escapes."""
    return _WILD.search(re.sub(r"\[[*?[]\]", "", pattern)) is not None


def word_of(typed: str, start: int = 0) -> Word:
    pattern = "".join(_pattern(piece) for piece in _PIECES.findall(typed))
    return Word(typed, shlex.split(typed)[0], pattern, start)


def _pattern(piece: str) -> str:
    return escape(shlex.split(piece)[0]) if len(piece) > 1 else piece


def split_line(line: str) -> list[list[Word]]:
    """The commands of a line. Raises BadInput for a quotation that does not end."""
    commands: list[list[Word]] = [[]]
    for kind, text, start in _tokens(line):
        if kind == "open":
            what = (
                "The \\ at the end has nothing after it" if text == "\\" else f"The quotation {text[:40]} is not closed"
            )
            raise BadInput(f"{what}; write \\{text[0]} for the character itself.")
        if kind == "end":
            commands.append([])
        elif kind == "word":
            commands[-1].append(word_of(text, start))
    return [words for words in commands if words]


def _tokens(line: str) -> Iterator[tuple[str, str, int]]:
    end = 0
    while found := _TOKEN.match(line, end):
        end = found.end()
        yield found.lastgroup or "", found[0], found.start()


def quoted(text: str) -> str:
    """The text as a word to be typed, with a backslash before each character that means something here."""
    return _UNSAFE.sub(r"\\\1", text) or "''"


def unfinished(line: str) -> tuple[list[Word], Word]:
    """The words before the cursor of the line's last command, and the one the cursor is in or behind (maybe empty).

    Its `typed` keeps an open quotation.
    """
    words: list[Word] = []
    last: Word | None = None
    for kind, text, start in _tokens(line):
        if last is not None and kind != "open":
            words.append(last)
            last = None
        if kind == "end":
            words = []
        elif kind == "word":
            last = word_of(text, start)
        elif kind == "comment":
            return [], Word("#", "#", "#", start)  # Nothing begins so.
        elif kind == "open":
            before = last.typed if last else ""
            begin = last.start if last else start
            whole = word_of(before + _closed(text)) if _closed(text) else Word(before, before, before)
            last = Word(before + text, whole.text, whole.pattern, begin)
    return words, last or Word("", "", "", len(line))


def _closed(text: str) -> str:
    """An open quotation with its end."""
    if text.startswith("\\"):
        return ""
    body = text.rstrip("\\") if text.startswith('"') else text
    return body + text[0]
