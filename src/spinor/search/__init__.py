"""Search: the one grammar for filters, sorting, paging and summaries over declared fields.

Nouns: `Expression` (what a filter means) and `Search` (the request); in `fields`, what a system lets its callers name.
Verbs: `parse`; in `where`, `page` and `summary`: `compile_where`, `compile_page`, `compile_summary`.

What is imported here knows no database driver, so the command line can refuse a bad filter before it asks the server.
"""

from spinor.search.expression import (
    And,
    BadQuery,
    Comparison,
    Everything,
    Expression,
    Like,
    Membership,
    Name,
    Not,
    Operator,
    Or,
    Place,
    Presence,
    Value,
)
from spinor.search.grammar import parse
from spinor.search.models import Search

__all__ = [
    "And",
    "BadQuery",
    "Comparison",
    "Everything",
    "Expression",
    "Like",
    "Membership",
    "Name",
    "Not",
    "Operator",
    "Or",
    "Place",
    "Presence",
    "Search",
    "Value",
    "parse",
]
