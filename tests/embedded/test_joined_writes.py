"""What is written together leaves together, in order, and nothing stays behind."""

import asyncio
from typing import cast

import pytest

from spinor.commands.protocol import JoinedWrites


class Recorded:
    def __init__(self) -> None:
        self.calls: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("close")

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return "close" in self.calls


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def joined(recorded: Recorded) -> JoinedWrites:
    return JoinedWrites(cast(asyncio.Transport, recorded), asyncio.get_running_loop())


async def test_head_and_body_are_one_write(recorded: Recorded) -> None:
    transport = joined(recorded)
    transport.write(b"head")
    transport.write(b"body")
    assert (recorded.calls, transport.get_write_buffer_size()) == ([], 8)
    await asyncio.sleep(0)
    assert (recorded.calls, transport.get_write_buffer_size()) == ([b"headbody"], 0)


async def test_a_large_body_is_not_kept_back(recorded: Recorded) -> None:
    transport = joined(recorded)
    transport.write(b"head")
    transport.write(b"x" * 100_000)
    transport.write(b"tail")
    assert recorded.calls == [b"head", b"x" * 100_000]
    await asyncio.sleep(0)
    assert recorded.calls[2:] == [b"tail"]


async def test_what_was_written_leaves_before_the_end(recorded: Recorded) -> None:
    transport = joined(recorded)
    transport.write(b"last")
    transport.close()
    await asyncio.sleep(0)
    assert recorded.calls == [b"last", "close"]
    assert transport.is_closing()
