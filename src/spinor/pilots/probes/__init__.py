"""Probes: one pilot and one job that show, step by step, whether a computing element works.

Verbs: start one, look at one. A probe also decides whether what waits for one comes back into use.
"""
