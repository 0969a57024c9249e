"""Spinor: the interware between scientific communities and the machines and storages they can reach.

import spinor

grid = spinor.connect()
grid.submit(executable="echo", arguments=["hello"]).result().stdout
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spinor.api import connect as connect

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Commands and services begin faster without what only Python programs use.
    if name != "connect":
        raise AttributeError(f"module 'spinor' has no attribute {name!r}")
    import importlib

    return importlib.import_module("spinor.api").connect


def load_ipython_extension(shell: object) -> None:
    """`%load_ext spinor`."""
    import importlib

    importlib.import_module("spinor.notebook.magics").load(shell)


def unload_ipython_extension(shell: object) -> None:
    import importlib

    importlib.import_module("spinor.notebook.magics").unload(shell)
