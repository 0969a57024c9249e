"""What a terminal can show of bytes that anybody may have written: text without the power over the terminal."""

import codecs
import re

# ECMA-48: control sequences, strings up to their end, and the other escapes; each also in its 8-bit form.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
# What may yet become one of them.
_BEGUN = re.compile(
    r"(?:(?:\x1b\[|\x9b)[0-?]*[ -/]*|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*\x1b?|\x1b[ -/]*)\Z"
)
_KEPT = "\n\t\r"
_LONGEST = 4096  # No honest sequence is longer; what claims to be one is shown as the text that it is.


class PlainText:
    """Turns pieces of a stream into what can be shown of them. Sequences and characters may be cut anywhere."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""

    def feed(self, data: bytes, *, is_last: bool = False) -> str:
        text = _SEQUENCE.sub("", self._begun + self._decoder.decode(data, is_last))
        self._begun = ""
        begun = None if is_last else _BEGUN.search(text)
        if begun and len(text) - begun.start() <= _LONGEST:
            text, self._begun = text[: begun.start()], text[begun.start() :]
        return "".join(c for c in text if c.isprintable() or c in _KEPT)


def plain(data: bytes) -> str:
    """A whole text at once."""
    return PlainText().feed(data, is_last=True)
