"""Where this runs: in a notebook, in a terminal, or in neither."""

import sys
from typing import Any


def in_notebook() -> bool:
    """Whether what is displayed goes to a notebook, and not to a terminal or nowhere."""
    return getattr(_shell(), "kernel", None) is not None


def cell_number() -> int | None:
    """The number of the cell that runs now."""
    number: int | None = getattr(_shell(), "execution_count", None)
    return number


def _shell() -> Any:
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return get_ipython()
