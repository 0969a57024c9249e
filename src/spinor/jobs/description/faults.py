"""What is wrong with a description, said so that it can be mended."""

import difflib
from collections.abc import Iterable
from typing import Any

from spinor.errors import BadInput


class BadDescription(BadInput):
    """The job description is refused."""

    code = "bad-job-description"


def fault(field: str, problem: str, **facts: Any) -> BadDescription:
    return BadDescription(f"{field}: {problem}", field=field, **facts)


def shown(text: str) -> str:
    """A text of any length and content, fit for a sentence."""
    return repr(text if len(text) <= 80 else text[:77] + "…")


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that was meant, most likely, whatever the case of its letters."""
    spelled = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name[:80].lower(), list(spelled), n=1, cutoff=cutoff)
    return spelled[near[0]] if near else None
