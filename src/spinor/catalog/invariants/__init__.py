"""Invariants: what must be true of the catalog's tables at every commit, proved by statements in `queries.sql`.

Verbs: `check_slice` looks at a part of the catalog, `recount` makes right what follows from something else.
"""
