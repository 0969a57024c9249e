"""Massive work on the catalog as background operations: removing, annotating, rehosting and recounting whole trees.

An operation is a row. A worker takes it for one short transaction at a time, its slice, which locks the row, does a
part of the work in sets, moves the cursor and the counters, and commits. So a worker may die at any moment: nothing is
done twice and nothing is forgotten, and any other worker goes on.
"""
