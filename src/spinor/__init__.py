"""Spinor: the interware between scientific communities and the machines and storages they can reach."""

__version__ = "0.1.0"


def load_ipython_extension(shell: object) -> None:
    """`%load_ext spinor`."""
    import importlib

    importlib.import_module("spinor.notebook.magics").load(shell)


def unload_ipython_extension(_shell: object) -> None:
    import importlib

    importlib.import_module("spinor.notebook.magics").unload()
