"""Where a listing names files by URLs or absolute paths: the same names relative to a storage element's root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_QUOTED = ("http", "https", "dav", "davs", "file", "s3", "s3s")  # Schemes whose URLs escape with %.
_OUTSIDE = r"^(/|[A-Za-z][A-Za-z0-9+.-]*://)"


class Roots:
    """The prefixes under which a listing may name the root: an absolute path, URLs. Relative names stay as they are."""

    def __init__(self, prefixes: Sequence[str]) -> None:
        self.prefixes = sorted({prefix.rstrip("/") for prefix in prefixes}, key=len, reverse=True)

    def relative(self, names: pa.StringArray) -> tuple[pa.StringArray, Any]:
        """The names below the root, and a mask (numpy) of those that lie there. What the others become is no name."""
        inside = np.zeros(len(names), bool)
        below = names
        for prefix in self.prefixes:
            here = np.asarray(pc.starts_with(names, prefix + "/")) & ~inside
            if here.any():
                cut = pc.utf8_slice_codeunits(names, len(prefix) + 1)
                if prefix.partition("://")[0] in _QUOTED:
                    cut = _unquoted(cut)
                below = cut if here.all() else pc.if_else(pa.array(here), cut, below)
                inside |= here
        if not inside.all():
            inside |= ~np.asarray(pc.match_substring_regex(names, _OUTSIDE))
        return _tidy(below), inside


def _unquoted(cut: pa.StringArray) -> pa.StringArray:
    escaped = np.flatnonzero(np.asarray(pc.match_substring(cut, "%")))
    if not len(escaped):
        return cut
    names = cut.to_pylist()
    for n in escaped:
        names[n] = unquote(names[n])
    return pa.array(names, pa.string())


def _tidy(names: pa.StringArray) -> pa.StringArray:
    """Without `./` at the front, without empty parts."""
    if pc.any(pc.starts_with(names, "./")).as_py():
        names = pc.replace_substring_regex(names, r"^(\./+)+", "")
    if pc.any(pc.starts_with(names, "/")).as_py():
        names = pc.ascii_ltrim(names, "/")
    if pc.any(pc.match_substring(names, "//")).as_py():
        names = pc.replace_substring_regex(names, "//+", "/")
    return names
