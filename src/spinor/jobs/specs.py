"""The description of one job, out of its array's."""

from functools import lru_cache
from typing import Protocol

import msgspec

from spinor.jobs.description import expanded
from spinor.jobs.models import JobSpec, OutputData

_decode_values = msgspec.json.Decoder(dict[str, object]).decode


class Element(Protocol):
    """A job with its array's description and its own values, both as JSON."""

    @property
    def job_id(self) -> int: ...
    @property
    def array_id(self) -> int: ...
    @property
    def array_index(self) -> int: ...
    @property
    def attempt(self) -> int: ...
    @property
    def spec(self) -> str: ...
    @property
    def parameters(self) -> str | None: ...


@lru_cache(maxsize=1024)
def decoded(text: str) -> JobSpec:
    """The same text again costs nothing: jobs of an array come one after the other."""
    return msgspec.json.decode(text, type=JobSpec)


def spec_of(job: Element) -> JobSpec:
    """The description of one job, with its own values."""
    values = _decode_values(job.parameters) if job.parameters else {}
    built_in = {"index": job.array_index, "job_id": job.job_id, "array_id": job.array_id}
    return expanded(decoded(job.spec), {**values, **built_in})


def suffix_of(job: Element) -> str:
    """What makes the PFN of an attempt's output differ from that of any other attempt."""
    return f";{job.job_id}.{job.attempt}"


def names_many(output: OutputData) -> bool:
    """Whether it stands for any number of files, each with its own name in the directory `lfn`."""
    return output.lfn.endswith("/") or any(mark in output.path for mark in "*?[")


def places_of(output: OutputData) -> list[str]:
    """The storage elements that each of its files goes to."""
    return list(dict.fromkeys([*([output.se] if output.se else []), *output.ses]))
