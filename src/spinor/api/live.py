"""A display that is written over in place while something goes on; a line of text where there is no notebook."""

import sys
from typing import Any

from spinor.api.rendering import Shown
from spinor.api.surroundings import cell_number, in_notebook
from spinor.terminal import Progress


class Live:
    """Shows something, and shows it again in the same place at each update."""

    def __init__(self, shown: Shown, label: str) -> None:
        self._shown = shown
        self._handle: Any = None
        self._progress: Progress | None = None
        if in_notebook():
            from IPython.display import display

            self._handle = display(shown, display_id=True)  # type: ignore[no-untyped-call]
        elif sys.stderr.isatty():
            self._progress = Progress(label)

    def update(self, done: int, total: int, note: str) -> None:
        if self._handle is not None:
            self._handle.update(self._shown)
        elif self._progress is not None:
            self._progress.total = total
            self._progress.set(done, note)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.__exit__()
        if self._handle is not None:
            self._shown.followed_in = cell_number()
