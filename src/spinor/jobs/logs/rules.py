"""How much of a stream is kept, and how its parts become one text again."""

import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

HEAD_BYTES = 8 * 1024 * 1024  # Of one stream of one attempt, from its beginning …
TAIL_BYTES = 8 * 1024 * 1024  # … and at least so many of its end.
MAX_CHUNK_BYTES = 1024 * 1024
FRAME_BYTES = 1024 * 1024
LAST_BYTES = 4096

Part = tuple[int, bytes]  # Bytes, and where in the stream they begin.


class Read(NamedTuple):
    data: bytes
    position: int  # Where the next bytes are, in the stream as the payload wrote it.


def assembled(parts: Iterable[Part], position: int) -> Read:
    """The bytes from `position` on. Where some were left out, a line says how many."""
    pieces: list[bytes] = []
    for start, data in parts:
        if start + len(data) <= position:
            continue
        if start > position:
            pieces.append(notice(start - position))
            position = start
        pieces.append(data[position - start :])
        position = start + len(data)
    return Read(b"".join(pieces), position)


def notice(left_out_bytes: int) -> bytes:
    return (
        f"\n[spinor: {left_out_bytes} bytes are left out here: of a longer log the first {HEAD_BYTES // 1024**2} MiB "
        f"and the last {TAIL_BYTES // 1024**2} MiB are kept]\n"
    ).encode()


def split(start: int, data: bytes) -> list[Part]:
    """The bytes as parts of which none lies in both the head and what follows it."""
    cut = HEAD_BYTES - start
    if 0 < cut < len(data):
        return [(start, data[:cut]), (HEAD_BYTES, data[cut:])]
    return [(start, data)] if data else []


class Packed(NamedTuple):
    """A whole log, compressed in frames of 1 MiB, so that any part of it is read without the rest."""

    head_bytes: int
    tail_position: int
    end_position: int
    frames: list[int]  # Where each compressed frame ends.
    last: bytes
    data: bytes


def packed(parts: Sequence[Part]) -> Packed:
    """The stored parts of a stream, in order: with one gap at most, after its head."""
    head, tail = bytearray(), bytearray()
    tail_position = 0
    for start, data in parts:
        end = tail_position + len(tail) if tail else len(head)
        fresh = data[max(0, end - start) :]
        if not fresh:
            continue
        if tail or start > end:
            tail_position = tail_position if tail else start
            tail += fresh
        else:
            head += fresh
    stored = bytes(head + tail)
    pieces = [zlib.compress(stored[n : n + FRAME_BYTES], 6) for n in range(0, len(stored), FRAME_BYTES)]
    ends, end = [], 0
    for piece in pieces:
        end += len(piece)
        ends.append(end)
    tail_position = tail_position if tail else len(head)
    return Packed(len(head), tail_position, tail_position + len(tail), ends, stored[-LAST_BYTES:], b"".join(pieces))


class Span(NamedTuple):
    """Frames `first` to `last` (not included), and where their compressed bytes are."""

    first: int
    last: int
    start: int
    end: int


def span(head_bytes: int, tail_position: int, frames: Sequence[int], position: int, count: int) -> Span | None:
    """The frames to read for a position in the stream; None past its end."""
    offset = position if position < head_bytes else head_bytes + max(0, position - tail_position)
    first = offset // FRAME_BYTES
    last = min(first + count, len(frames))
    if first >= len(frames):
        return None
    return Span(first, last, frames[first - 1] if first else 0, frames[last - 1])


def unpacked(head_bytes: int, tail_position: int, frames: Sequence[int], place: Span, data: bytes) -> list[Part]:
    """What those frames hold, as parts of the stream."""
    parts: list[Part] = []
    for n in range(place.first, place.last):
        begin = (frames[n - 1] if n else 0) - place.start
        text = zlib.decompress(data[begin : frames[n] - place.start])
        offset = n * FRAME_BYTES
        in_head = text[: max(0, head_bytes - offset)]
        if in_head:
            parts.append((offset, in_head))
        if len(text) > len(in_head):
            parts.append((tail_position + offset + len(in_head) - head_bytes, text[len(in_head) :]))
    return parts
