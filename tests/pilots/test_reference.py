"""The reference page of sites and pilots shows the state machines of the code."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import pytest

from spinor.pilots.rules import TRANSITIONS as PILOTS
from spinor.resources.status.rules import TRANSITIONS as STATUSES

S = TypeVar("S", bound=StrEnum)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "sites-and-pilots.md"


def diagram(transitions: Mapping[S, frozenset[S]], first: str) -> str:
    states = list(type(next(iter(transitions))))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {old.value} --> {new.value}" for old in states for new in states if new in transitions[old]]
    lines += [f"    {old.value} --> [*]" for old in states if not transitions[old]]
    return "\n".join([*lines, "```"])


@pytest.mark.parametrize(("transitions", "first"), [(PILOTS, "new"), (STATUSES, "active")])
def test_the_page_shows_the_machine(transitions: Mapping[StrEnum, frozenset[StrEnum]], first: str) -> None:
    assert diagram(transitions, first) in PAGE.read_text()
    assert all(f"| `{state.value}` |" in PAGE.read_text() for state in transitions)
