"""Dumps and streamed listings: all that lies on a storage element, or in a directory, without holding it in memory.

A dump is one snapshot of the database, and names its position in the change feed: the dump with what follows that
position is an exact mirror.
"""
