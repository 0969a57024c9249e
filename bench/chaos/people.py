"""People at work while everything around them is killed. Each repeats a request until its answer is certain."""

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg

from bench.chaos.ledger import Ledger
from bench.service import Service
from spinor.client import Client
from spinor.errors import SpinorError

T = TypeVar("T")
PATIENCE_S = 180.0
PAUSE_S = 0.3


class GaveUp(Exception):
    """The service gave no certain answer for so long that somebody would call it down."""


class Refused(Exception):
    """The service refused, and trying again would not help."""

    def __init__(self, error: SpinorError) -> None:
        super().__init__(error.message)
        self.error = error


class Person(threading.Thread):
    """One client thread with its own randomness and its own connection."""

    def __init__(self, name: str, service: Service, ledger: Ledger, seed: int, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.service = service
        self.ledger = ledger
        self.random = random.Random(f"{seed} {name}")
        self.stopping = stop
        self._client: Client | None = None

    def prepare(self) -> None:
        """Do what comes before the first act."""

    def act(self) -> None:
        """Do one thing, and write down what was acknowledged."""
        raise NotImplementedError

    def run(self) -> None:
        try:
            self.prepare()
            while not self.stopping.is_set():
                self.act()
        except (GaveUp, Refused, SpinorError, OSError) as error:
            self.ledger.surprise(f"{self.name} could not go on: {type(error).__name__}: {error}")

    def insist(self, request: Callable[[Client], T]) -> T:
        """The answer, once it is certain.

        An earlier try may have been carried out although nobody heard of it, also one that the client made by itself:
        so "there is no such file" can be the answer to a removal that succeeded.
        """
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return request(self.client())
            except SpinorError as error:
                if not (error.retry or error.status >= 500 or error.status == 401):
                    raise Refused(error) from None
                if error.status == 500 and error.code == "internal":
                    self.ledger.note(f"an unexpected error reached a client: {error.message[:120]}")
                problem = error.message
            except psycopg.Error as error:  # While a token was made, which asks the database.
                problem = str(error)
            self._forget_client()
            if time.monotonic() > end:
                raise GaveUp(f"no certain answer for {PATIENCE_S:.0f} s; the last word was: {problem}")
            time.sleep(PAUSE_S)

    def client(self) -> Client:
        if self._client is None:
            self._client = self.service.client(self.service.token())
        return self._client

    def _forget_client(self) -> None:
        """The address or the token may have changed."""
        if self._client is not None:
            self._client.close()
            self._client = None
