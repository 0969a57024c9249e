"""Benchmarks with their peers, and chaos: one door each, so that anyone can repeat a figure.

`python -m bench list|run` and `python -m bench.chaos list|run`. What is measured and what came out is in
docs/benchmarks.md.
"""
