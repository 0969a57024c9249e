"""The line editor: GNU readline or libedit by the standard library, with a history that outlives the session."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Timer

Complete = Callable[[str, int], list[str]]  # The line up to the cursor, and where its last part begins.
_MOST_LINES = 10_000


class Editor:
    """Reads lines from a terminal. Without readline it still reads them, and does not complete."""

    def __init__(self, history: Path, complete: Complete) -> None:
        self.history = history
        self.complete = complete
        self._candidates: list[str] = []
        try:
            import readline
        except ImportError:  # A Python that was built without it.
            self._readline = None
            return
        self._readline = readline
        readline.set_completer_delims(" \t\n;/")  # What is shown of a path is its last name.
        readline.set_completer(self._candidate)
        libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
        readline.set_history_length(_MOST_LINES)
        with suppress(OSError):
            readline.read_history_file(history)
        self._known_lines = readline.get_current_history_length()

    def read(self, prompt: str) -> str:
        """The next line. Raises EOFError, KeyboardInterrupt."""
        return input(prompt)

    def _candidate(self, _text: str, state: int) -> str | None:
        assert self._readline
        if state == 0:
            line = self._readline.get_line_buffer()[: self._readline.get_endidx()]
            try:
                self._candidates = self.complete(line, self._readline.get_begidx())
            except KeyboardInterrupt:
                # The editor forgets what is raised here, so the interrupt comes again when it reads on.
                self._candidates = []
                Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
        return self._candidates[state] if state < len(self._candidates) else None

    def close(self) -> None:
        """Add this session's lines to the history; sessions that run at once keep each other's."""
        new_lines = self._readline.get_current_history_length() - self._known_lines if self._readline else 0
        if not self._readline or new_lines <= 0:
            return
        with suppress(OSError):  # A home that cannot be written to costs the history, and nothing else.
            self.history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.history, os.O_WRONLY | os.O_CREAT, 0o600))
            self._readline.append_history_file(new_lines, self.history)
