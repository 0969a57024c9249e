"""Functions that the tests let run in jobs, where Spinor is not installed."""

import asyncio
import math
import os
import time

FACTOR = 3


class Own(Exception):
    pass


def scaled(x: float, *, factor: int = FACTOR) -> tuple[float, int]:
    return math.sqrt(x), factor


def broken(x: int) -> None:
    raise ValueError("no such x", x)


def broken_otherwise() -> None:
    raise Own("mine")


def no_data() -> object:
    return object()


def sleeps() -> None:
    time.sleep(600)


def leaves() -> None:
    os._exit(7)


async def waits(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1
