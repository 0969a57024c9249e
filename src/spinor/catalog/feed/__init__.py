"""The change feed: what happened to the names of a VO, for whoever keeps a mirror of them.

A position is a snapshot of the database: which transactions it saw. What follows a position are the changes of the
transactions that it did not see, so nothing is missed however transactions overlap, and nothing waits for one that
takes long. Within an answer rows stand in the order of their numbers, which were given while their directories were
locked: changes of one directory come in the order in which they happened.
"""
