"""The jobs that a command is about: their ids, ranges of them, `-` for stdin, or whole arrays."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from spinor.jobs.models import JobIds
from spinor.terminal import read_ids

F = TypeVar("F", bound=Callable[..., Any])


def job_ids(command: F) -> F:
    """ID… and --array."""
    array = click.option("--array", "array_ids", type=int, multiple=True, metavar="ID", help="All jobs of an array.")
    return click.argument("ids", nargs=-1, metavar="[ID]...")(array(command))


def chosen(ids: Sequence[str], array_ids: Sequence[int]) -> JobIds:
    """The ids of the command line; a usage error when there is none, and none came from stdin either."""
    if not ids and not array_ids:
        raise click.UsageError("Name jobs by id, by a range such as 10-19, by --array, or with - for ids on stdin.")
    return JobIds(job_ids=list(dict.fromkeys(read_ids(ids))), array_ids=list(array_ids))
