"""Questions that are served in groups: none is left without somebody who serves it."""

import asyncio
from collections.abc import Sequence

from spinor.pilots.service.groups import Groups


async def doubled(group: Sequence[int]) -> list[int | Exception]:
    return [2 * number for number in group]


async def test_who_asks_the_moment_an_answer_comes_is_served() -> None:
    """The worker has found nobody left by then, and its task is over only in the loop's next round."""
    groups: Groups[int, int] = Groups(doubled, most=4, at_once=1)
    async with asyncio.timeout(20):
        assert [await groups.ask("pilot", number) for number in range(5)] == [0, 2, 4, 6, 8]


async def test_what_serving_raises_is_every_askers_error_and_the_next_are_served() -> None:
    async def serve(group: Sequence[int]) -> list[int | Exception]:
        if 0 in group:
            raise ValueError("no")
        return await doubled(group)

    groups: Groups[int, int] = Groups(serve, most=4, at_once=1)
    async with asyncio.timeout(20):
        failed = await asyncio.gather(groups.ask("a", 0), groups.ask("b", 1), return_exceptions=True)
        assert [str(error) for error in failed] == ["no", "no"]
        assert await groups.ask("a", 2) == 4
