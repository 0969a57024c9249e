"""Requests that come at the same moment, served together."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar, cast

Q = TypeVar("Q")
A = TypeVar("A")


class _Pending(Generic[Q, A]):
    def __init__(self, key: Hashable, question: Q) -> None:
        self.key, self.question = key, question
        self.answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()


class Groups(Generic[Q, A]):
    """Whoever asks while others are being served is served with the next group. `serve` gives one answer, or one error,
    for each question; what it raises itself is every asker's error."""

    def __init__(
        self, serve: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]], *, most: int, at_once: int
    ) -> None:
        self._serve, self._most, self._at_once = serve, most, at_once
        self._pending: list[_Pending[Q, A]] = []
        self._workers: set[asyncio.Task[None]] = set()

    async def ask(self, key: Hashable, question: Q) -> A:
        """The answer to a question. Two with the same key are never in one group."""
        pending = _Pending[Q, A](key, question)
        self._pending.append(pending)
        if len(self._workers) < self._at_once:
            self._workers.add(asyncio.create_task(self._work(), name="group"))
        return await pending.answer

    async def _work(self) -> None:
        try:
            await self._answer_all()
        finally:
            # In the step that found nobody left to ask: whoever asks next must not count on this worker.
            self._workers.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _answer_all(self) -> None:
        while group := self._taken():
            try:
                answers = await self._serve([each.question for each in group])
            except Exception as error:  # noqa: BLE001  Whoever asked hears of it; the next group is another matter.
                answers = [error] * len(group)
            for each, answer in zip(group, answers, strict=True):
                if each.answer.done():
                    continue  # Whoever asked has gone away.
                if isinstance(answer, Exception):
                    each.answer.set_exception(answer)
                else:
                    each.answer.set_result(answer)

    def _taken(self) -> list[_Pending[Q, A]]:
        group: dict[Hashable, _Pending[Q, A]] = {}
        left = []
        for each in self._pending:
            if each.answer.done():
                continue
            if len(group) < self._most and each.key not in group:
                group[each.key] = each
            else:
                left.append(each)
        self._pending = left
        return list(group.values())
