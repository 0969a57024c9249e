"""What payloads write has no power over the terminal that shows it."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spinor.jobs.cli.plain import PlainText, plain


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain\ttext\r\n", "plain\ttext\r\n"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b[2J\x1b[1;1Hgone", "gone"),
        (b"\x1b]0;title\x07rest", "rest"),
        (b"\x1b]52;c;cm0gLXJmIH4=\x1b\\rest", "rest"),  # It would write to the clipboard.
        (b"\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\", "click"),
        (b"\x1bP$qm\x1b\\rest", "rest"),
        (b"\x1bcreset", "reset"),
        (b"\x1b(Bcharset", "charset"),
        (b"back\x08\x08\x07\x00", "back"),
        ("\x9b31m8 bit\x9d0;t\x9c".encode(), "8 bit"),
        ("right\u202eleft".encode(), "rightleft"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"\x1b]0;never ended " + b"x" * 9000, "0;never ended " + "x" * 9000),
    ],
)
def test_sequences_are_taken_out(data: bytes, shown: str) -> None:
    result = plain(data)
    assert result.removeprefix("]") == shown


@example("0\x9b\x9dä\x1b0\x07", [8])
@example("\x1b]0;a\x07b", [3])
@given(st.text(alphabet="a[]0;1m\x1b\x07\\\x9b\x9dPcä\n", max_size=60), st.lists(st.integers(0, 80), max_size=5))
def test_it_does_not_matter_where_the_stream_is_cut(text: str, cuts: list[int]) -> None:
    data = text.encode()
    reader = PlainText()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [reader.feed(data[start:end]) for start, end in itertools.pairwise(places)]
    pieces.append(reader.feed(b"", is_last=True))
    result = "".join(pieces)
    assert result == plain(data)
    assert all(c.isprintable() or c in "\n\t\r" for c in result)
