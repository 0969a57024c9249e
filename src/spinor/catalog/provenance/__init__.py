"""Provenance: from which files a file was made, to any depth.

Links join files, not names: they follow a file that moves, and go with one that is removed.
"""
