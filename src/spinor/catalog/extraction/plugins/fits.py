"""FITS: the cards of the primary header (FITS standard 4.0, section 4), read without a library."""

import gzip
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from spinor.catalog.extraction.plugin import NoMetadata
from spinor.terminal import printable

_CARD_BYTES, _BLOCK_BYTES = 80, 2880
_MOST_BLOCKS = 10_000
# How the data are laid out says nothing of what they are.
_STRUCTURE = re.compile(r"SIMPLE|BITPIX|NAXIS\d*|EXTEND|BSCALE|BZERO|BLANK|GROUPS|PCOUNT|GCOUNT|CHECKSUM|DATASUM|END")
_STRING = re.compile(r" *'((?:[^']|'')*)'")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[ED][+-]?\d+)?")
_HIERARCH = re.compile(r"HIERARCH ([^=]+)=(.*)")


class FITS:
    endings: tuple[str, ...] = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz")

    def extract(self, path: Path) -> Mapping[str, Any]:
        packed = path.name.lower().endswith(".gz")
        with path.open("rb") as raw, gzip.open(raw) if packed else raw as file:
            try:
                return _values(_cards(file, path))
            except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
                raise NoMetadata(f"{printable(path.name)} cannot be read as FITS: {error}.") from None


def _cards(file: IO[bytes] | gzip.GzipFile, path: Path) -> Iterator[str]:
    for number in range(_MOST_BLOCKS):
        block = file.read(_BLOCK_BYTES)
        if number == 0 and not block.startswith(b"SIMPLE  ="):
            raise NoMetadata(f"{printable(path.name)} is no FITS file: it does not begin with SIMPLE.")
        for at in range(0, _BLOCK_BYTES, _CARD_BYTES):
            card = block[at : at + _CARD_BYTES].decode("ascii")
            if card.rstrip() == "END":
                return
            yield card
        if len(block) < _BLOCK_BYTES:
            break
    raise NoMetadata(f"The header of {printable(path.name)} has no END: the file is cut off.")


def _values(cards: Iterator[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    last = ""
    for card in cards:
        if card.startswith("CONTINUE  ") and isinstance(found.get(last), str) and found[last].endswith("&"):
            # A long string goes on (section 4.2.1.2).
            more = _STRING.match(card[8:])
            found[last] = found[last][:-1] + (more[1].replace("''", "'") if more else "")
            continue
        keyword, text = card[:8].rstrip(), card[10:]
        if long := _HIERARCH.match(card):
            keyword, text = ".".join(long[1].split()), long[2]
        elif card[8:10] != "= ":
            continue  # COMMENT, HISTORY and blank cards.
        if keyword and not _STRUCTURE.fullmatch(keyword) and (value := _value(text)) is not None:
            found[keyword] = value
            last = keyword
    return {key: value.rstrip() if isinstance(value, str) else value for key, value in found.items()}


def _value(text: str) -> Any:
    if string := _STRING.match(text):
        return string[1].replace("''", "'").rstrip()
    word = text.partition("/")[0].strip()
    if word in ("T", "F"):
        return word == "T"
    if not _NUMBER.fullmatch(word):
        return None  # Undefined, or a complex number.
    return int(word) if word.lstrip("+-").isdigit() else float(word.replace("D", "E"))
