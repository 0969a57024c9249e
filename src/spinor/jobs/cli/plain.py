"""What a terminal can show of bytes that anybody may have written: text without the power over the terminal."""

import codecs
import re

# ECMA-48: control sequences, strings up to their end, and the other escapes; each also in its 8-bit form. No honest one
# is longer than these bounds; what claims to be one is shown as the text that it is.
_CONTROL = r"(?:\x1b\[|\x9b)[0-?]{0,256}[ -/]{0,16}"
_STRING = r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]{0,4096}"
_OTHER = r"\x1b[ -/]{0,16}"
_COMPLETE = rf"{_CONTROL}[@-~]|{_STRING}(?:\x07|\x1b\\|\x9c)"
_BEGUN = rf"(?P<begun>(?:{_CONTROL}|{_STRING}\x1b?|{_OTHER})\Z)"
_AT_THE_END = re.compile(rf"{_COMPLETE}|{_OTHER}[0-~]")
# In the middle of a stream a sequence that may yet go on is waited for, before it is taken for a shorter one.
_MEANWHILE = re.compile(rf"{_COMPLETE}|{_BEGUN}|{_OTHER}[0-~]")
_KEPT = "\n\t\r"


class PlainText:
    """Turns pieces of a stream into what can be shown of them. Sequences and characters may be cut anywhere."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""

    def feed(self, data: bytes, *, is_last: bool = False) -> str:
        text = self._begun + self._decoder.decode(data, is_last)
        self._begun = ""
        shown = (_AT_THE_END if is_last else _MEANWHILE).sub(self._without, text)
        return "".join(c for c in shown if c.isprintable() or c in _KEPT)

    def _without(self, found: re.Match[str]) -> str:
        self._begun = found.groupdict().get("begun") or ""
        return ""


def plain(data: bytes) -> str:
    """A whole text at once."""
    return PlainText().feed(data, is_last=True)
