"""Datasets: a query under a name, and snapshots of what it found.

A dataset has an owner, a group and a mode like a file: who may read it may use it, and who may write it may change it.
Its query runs with the rights of whoever asks, so a dataset shows nobody what they could not find themselves. A
snapshot names what was there when it was taken: of files that are there still, a reader sees those that they may read;
of files that are gone, all names, since whoever took the snapshot shared it.
"""
