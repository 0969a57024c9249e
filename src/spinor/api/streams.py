"""What comes bit by bit: to be iterated, and in asyncio with `async for`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Stream(Generic[T]):
    """Each iteration begins anew."""

    def __init__(self, begin: Callable[[], Iterator[T]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[T]:
        return self._begin()

    async def __aiter__(self) -> AsyncIterator[T]:
        """The same while other tasks go on."""
        items = self._begin()
        end = object()
        while (item := await asyncio.to_thread(next, items, end)) is not end:
            yield item  # type: ignore[misc]
