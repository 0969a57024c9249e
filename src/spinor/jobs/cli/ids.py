"""The jobs that a command is about: ids, ranges of them, arrays, sets, a query, or `-` for ids on stdin."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spinor.errors import BadInput, SpinorError
from spinor.jobs.models import ChosenJobs
from spinor.terminal import printable, read_ids, read_words, say

if TYPE_CHECKING:
    from spinor.client import Client

F = TypeVar("F", bound=Callable[..., Any])

_CHOICES = (
    click.argument("ids", nargs=-1, metavar="[ID]..."),
    click.option("--array", "array_ids", type=int, multiple=True, metavar="ID", help="All jobs of an array."),
    click.option("--group", "job_groups", multiple=True, metavar="NAME", help="All jobs of a set (job_group)."),
    click.option("--where", default="", metavar="QUERY", help="All that a filter finds, such as 'status=failed'."),
)


def choosing(command: F) -> F:
    """ID… (17, 10-19, 3,5,8, array:7, -), --array, --group and --where; `chosen` reads them."""
    for choice in reversed(_CHOICES):
        command = choice(command)
    return command


def chosen(ids: Sequence[str], array_ids: Sequence[int], job_groups: Sequence[str], where: str) -> ChosenJobs:
    """What the command line names; a usage error when that is nothing, and nothing came from stdin either."""
    if not ids and not array_ids and not job_groups and not where.strip():
        raise click.UsageError(
            "Name jobs by id, by a range such as 10-19, by array:7, --group, --where, or with - for ids on stdin."
        )
    words = [part for word in read_words(ids) for part in word.split(",") if part]
    arrays = [_array(word) for word in words if word.startswith("array:")]
    jobs = read_ids(word for word in words if not word.startswith("array:"))
    return ChosenJobs(
        job_ids=list(dict.fromkeys(jobs)),
        array_ids=list(dict.fromkeys([*array_ids, *arrays])),
        job_groups=list(job_groups),
        where=where.strip(),
    )


def _array(word: str) -> int:
    number = word.removeprefix("array:")
    if not number.isdecimal():
        raise BadInput(f"{printable(word)!r} is not an array; write array:7, with the array's id.")
    return int(number)


def for_each(client: "Client", asked: ChosenJobs, do: Callable[[int], None]) -> int:
    """Do it for each job; what fails for one is told, and the others go on. The exit code is that of the first."""
    from spinor.jobs.client import find_ids

    ids = find_ids(client, asked)
    code = 0
    for job_id in ids:
        try:
            do(job_id)
        except SpinorError as error:
            if len(ids) == 1:
                raise
            sentence = error.message
            say(f"spinor: {sentence}" if str(job_id) in sentence else f"spinor: job {job_id}: {sentence}")
            code = code or error.exit_code
    return code
