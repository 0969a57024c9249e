"""A client that threads may share."""

import http.client
import threading
from typing import Any

from spinor.client import Client


class _Held:
    """The connection of one thread, closed when the thread is over."""

    connection: http.client.HTTPConnection | None = None

    def __del__(self) -> None:
        if self.connection is not None:
            self.connection.close()


class SharedClient(Client):
    """Each thread has a connection of its own to the server; who one is is the same for all of them."""

    def __init__(self, *arguments: Any) -> None:
        self._of_thread = threading.local()
        super().__init__(*arguments)

    @property
    def _connection(self) -> http.client.HTTPConnection | None:
        held: _Held | None = getattr(self._of_thread, "held", None)
        return held.connection if held else None

    @_connection.setter
    def _connection(self, connection: http.client.HTTPConnection | None) -> None:
        if not hasattr(self._of_thread, "held"):
            self._of_thread.held = _Held()
        self._of_thread.held.connection = connection

    def beside(self) -> Client:
        """One connection, in whatever threads it is used one after the other."""
        beside = Client.__new__(Client)
        known = {name: value for name, value in self.__dict__.items() if name != "_of_thread"}
        beside.__dict__.update(known, _connection=None)
        return beside
