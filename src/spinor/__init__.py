"""Spinor: the interware between scientific communities and the machines and storages they can reach."""

__version__ = "0.1.0"
