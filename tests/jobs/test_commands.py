"""What the commands of jobs decide without a service."""

from pathlib import Path
from typing import Any

import pytest

from spinor.errors import BadInput
from spinor.jobs.cli.ids import chosen
from spinor.jobs.cli.run import localized
from spinor.jobs.cli.statistics import quantiles
from spinor.jobs.cli.waiting import holds
from spinor.jobs.client import quoted, refusals, where_of
from spinor.jobs.models import ChosenJobs, IdRange, Outcome, Refused
from spinor.search import parse


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("script.sh", "data/in.txt", "echo", "a=b.txt"):
        (tmp_path / name).write_text("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_that_a_command_names_go_along(here: Path) -> None:
    assert localized(["./script.sh", "data/in.txt", "data/in.txt"]) == (
        ["./script.sh", "in.txt", "in.txt"],
        ["./script.sh", "data/in.txt"],
    )
    assert localized(["sh", "script.sh", "--in=data/in.txt"]) == (
        ["sh", "script.sh", "--in=in.txt"],
        ["script.sh", "data/in.txt"],
    )


@pytest.mark.parametrize(
    "words",
    [
        ["echo", "hello"],  # A program without a slash is one of the worker node,
        [str(Path("/bin/cat")), "/etc/hostname"],  # and so is an absolute path.
        ["cat", "-", "", "data", "nothing.txt", "-data/in.txt"],
        ["python3", "-c", "print(1)\n" * 2000],
        ["sh", "-c", "a\0b"],
    ],
)
def test_other_words_stay_as_they_are(here: Path, words: list[str]) -> None:
    assert localized(words) == (words, [])


@pytest.mark.parametrize(
    ("condition", "counts", "expected"),
    [
        ("ended", {"done": 2, "running": 1}, False),
        ("ended", {"done": 2, "failed": 1}, True),
        ("done", {"done": 2, "running": 1}, False),
        ("done", {"failed": 1, "running": 1}, None),
        ("started", {"checking": 1, "done": 1}, False),
        ("started", {"running": 1, "killed": 1}, True),
        ("any-ended", {"running": 1, "deleted": 1}, True),
        ("any-started", {"waiting": 1, "matched": 1}, False),
        ("any-failed", {"done": 1, "running": 1}, False),
        ("any-failed", {"done": 2}, None),
        ("any-failed", {"done": 1, "killed": 1}, True),
    ],
)
def test_conditions_hold_may_hold_or_never_will(condition: str, counts: dict[str, int], expected: bool | None) -> None:
    assert holds(condition, counts) is expected


def test_a_choice_is_ids_arrays_sets_and_a_query() -> None:
    found = chosen(["3,5-6", "7", "array:9", "3"], [11], ["a b"], " status=failed ")
    assert found == ChosenJobs(job_ids=[3, 5, 6, 7], array_ids=[11, 9], job_groups=["a b"], where="status=failed")
    assert where_of(found) == 'job_id=3,5,6,7 or array_id=11,9 or job_group="a b" or (status=failed)'
    assert where_of(ChosenJobs()) == ""
    for word in ("array:", "array:x", "x", "3-", "-3"):
        with pytest.raises(BadInput):
            chosen([word], [], [], "")


@pytest.mark.parametrize("text", ["plain", "with 'quotes' and \"those\"", "a\\b", "*", "or", "x,y", "ü"])
def test_values_are_quoted_so_that_the_filter_takes_them_literally(text: str) -> None:
    # The grammar writes what it has read; a pattern would be written as `like`.
    written = str(parse(f"name={quoted(text)}"))
    assert written.startswith("name = ")
    assert str(parse(written)) == written
    assert written.removeprefix("name = ") in (text, quoted(text))


def test_refusals_name_their_jobs() -> None:
    def refused(*ranges: IdRange) -> Refused:
        return Refused(job_ids=list(ranges), code="denied", detail="It is another user's.")

    many = [IdRange(10 * n, 10 * n) for n in range(7)]
    assert refusals(Outcome(done=[], refused=[refused(IdRange(3, 3)), refused(IdRange(1, 2)), refused(*many)])) == [
        "job 3: It is another user's.",
        "jobs 1-2: It is another user's.",
        "jobs 0, 10, 20, 30, 40 and 2 more ranges: It is another user's.",
    ]


def test_quantiles() -> None:
    found: Any = quantiles(range(100))
    assert found == {"median": 50, "p95": 95, "most": 99}
    assert quantiles([7]) == {"median": 7, "p95": 7, "most": 7}
    assert quantiles([]) is None
