"""Queries over files: what they may name, and how they are answered without looking at every file.

A file's metadata is its directory's (`directory.effective`) under its own, and most files have none of their own. So
a query is first asked of directories: for each one it is surely true, surely false, or open for the files directly
inside. Only open directories have their files looked at (`levels`, `search.sql`).
"""
