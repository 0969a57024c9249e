"""The published JSON Schema of job descriptions (draft 2020-12): the models, with words and examples for editors."""

from functools import cache
from typing import Any

import msgspec

from spinor.jobs.description.checks import SIGNALS
from spinor.jobs.models import JobSpec

_NUMBER = r"[0-9]+(\.[0-9]+)?"
_SIZE = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtTpPeE][iI]?)?[bB]?\s*$"},
    ]
}
_DURATION = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {
            "type": "string",
            "pattern": rf"^\s*({_NUMBER}|({_NUMBER}\s*([sSmMhHdDwW]|[mM][iI][nN])\s*)+)\s*$",
        },
    ]
}
_DURATIONS = (
    ("JobSpec", "wall_s"),
    ("JobSpec", "placement_wait_s"),
    ("JobSpec", "stop_margin_s"),
    ("Retries", "delay_s"),
)
_SIZES = (("JobSpec", "memory_bytes"), ("JobSpec", "disk_bytes"), ("JobSpec", "gpu_memory_bytes"))

# (Struct, field) -> a sentence, and examples.
WORDS: dict[str, dict[str, tuple[str, list[Any]]]] = {
    "JobSpec": {
        "executable": ("A program on PATH, an absolute path, or a file of the input sandbox.", ["./run.sh", "python3"]),
        "arguments": ("Each is one argument: no shell, no quoting.", [["--run", "{run}"]]),
        "environment": ("Variables of the payload.", [{"OMP_NUM_THREADS": 2}]),
        "name": ("What lists call it; other descriptions of the submission may wait for it by this name.", ["spectra"]),
        "job_group": ("The set that it belongs to.", ["paper-2027"]),
        "job_type": ("A word of your VO's for the kind of job.", ["user"]),
        "input_sandbox": ("Local files and directories that go with it.", [["run.sh", "conf/"]]),
        "input_sandboxes": ("Ids of sandboxes that are stored already.", [[17]]),
        "input_data": ("LFNs of files that it reads.", [["/astro/runs/{run}/events.dat"]]),
        "input_query": (
            "More input data: what a catalog query finds at submission.",
            ["/astro/runs type = raw"],
        ),
        "input_policy": ("download copies input data into the job's directory; protocol gives their URLs.", []),
        "placement": ("Whether it runs where replicas of its input data are.", []),
        "placement_wait_s": ("How long it waits for a place near them, when it only prefers one.", ["10m"]),
        "output_sandbox": ("Patterns of files that come back with `spinor job output`.", [["*.log"]]),
        "output_data": ("Files that it leaves on storage elements.", []),
        "stdout": ("Also keep standard output as this file of its directory.", ["std.out"]),
        "stderr": ("Also keep standard error as this file of its directory.", ["std.err"]),
        "parameters": ("Lists of one length: one job for each entry.", [{"run": [101, 102, 103]}]),
        "cores": ("At least so many.", [4]),
        "max_cores": ("Where there is room, up to so many; SPINOR_CORES says how many it got.", [8]),
        "whole_node": ("All cores of a node, and nobody else on it.", []),
        "memory_bytes": ("Of one job, asked for and enforced.", ["2GB", "4GiB"]),
        "disk_bytes": ("Of one job, asked for and enforced.", ["10GB"]),
        "wall_s": ("The longest that it may run.", ["90m", "1d"]),
        "cpu_work_hs23_s": ("HS23 seconds over all cores: a faster node needs less time.", [36000]),
        "gpus": ("How many GPUs.", [1]),
        "gpu_model": ("Part of the model's name, in any case.", ["A100"]),
        "gpu_memory_bytes": ("Of each GPU.", ["16GB"]),
        "platform": ("The machine, as `uname -m` says.", ["x86_64", "aarch64"]),
        "container_image": ("An image of a registry, a file or a CVMFS path.", ["docker://debian:stable"]),
        "site": ("The same as `sites` with one entry.", ["LOCAL"]),
        "sites": ("Only at these.", [["LOCAL"]]),
        "banned_sites": ("Not at these.", []),
        "computing_elements": ("Only through these.", []),
        "tags": ("Each must be offered by the slot.", [["bigmem"]]),
        "labels": ("Words that limits of the operations data may name.", [["license-matlab"]]),
        "priority": ("0 to 9 among your own jobs; 9 goes first.", [5]),
        "deadline": ("A job that has not started by then has failed. With a time zone.", ["2027-03-01T12:00:00Z"]),
        "token_scopes": ("What its own token may do beside reporting on its job.", [["files:read"]]),
        "retries": ("How often it is tried again by itself, by what it failed of.", [{"site": 3, "memory": 2}]),
        "after": ("What must have ended before it may run.", [[{"name": "prepare"}]]),
        "notify": ("Whom to tell of its end.", [[{"on": ["failed"], "email": "ada@example.org"}]]),
        "stop_signal": ("What it gets before it is ended for time.", ["SIGTERM"]),
        "stop_margin_s": ("How long before its end it gets the signal.", ["2m"]),
        "hold": ("Wait for `spinor job release`.", []),
    },
    "OutputData": {
        "path": ("In the job's directory; with *, ? or [ ] it is a pattern.", ["fit.json", "*.root"]),
        "lfn": ("Of the one file; with a pattern, or with / at its end, the directory.", ["/astro/fits/{run}.json"]),
        "se": ("The storage element.", ["local-se"]),
        "ses": ("More storage elements: the file is replicated to each of them.", []),
        "failover": ("Tried in this order when none of the others takes the file.", []),
        "metadata": ("Set on each file that is registered.", [{"type": "fit", "run": "{run}"}]),
        "required": ("Whether the job has failed when no file is there.", []),
    },
    "Retries": {
        "site": ("The node, the pilot or its computing element failed.", []),
        "data": ("Inputs could not be read, or outputs not be written.", []),
        "payload": ("The application's own exit code.", []),
        "memory": ("It used more memory than it asked for.", []),
        "time": ("It used more time than it asked for.", []),
        "memory_growth": ("After running out of memory, it asks for so much more.", [1.5]),
        "delay_s": ("Before the first retry; doubled before each further one, up to an hour.", ["30s"]),
    },
    "After": {
        "job_id": ("A job of yours or your VO's.", []),
        "array_id": ("All jobs of an array.", []),
        "name": ("Another description of this submission.", ["prepare"]),
        "condition": ("How it must have ended.", []),
        "each": ("Job i waits for job i of the other array alone; both are of one size.", []),
    },
    "Notify": {
        "on": ("Of which ends; an array has ended when all its jobs have.", [["failed"]]),
        "email": ("One mail address.", ["ada@example.org"]),
        "webhook": ("An https address that gets a POST with JSON.", ["https://example.org/hook"]),
    },
}


@cache
def schema() -> dict[str, Any]:
    """One description, or a list of several."""
    found = msgspec.json.schema(JobSpec)
    definitions: dict[str, Any] = found["$defs"]
    for struct, fields in WORDS.items():
        for name, (sentence, examples) in fields.items():
            entry = definitions[struct]["properties"][name]
            entry["description"] = sentence
            if examples:
                entry["examples"] = examples
    for shape, places in ((_SIZE, _SIZES), (_DURATION, _DURATIONS)):
        for struct, name in places:
            entry = definitions[struct]["properties"][name]
            definitions[struct]["properties"][name] = {**{k: v for k, v in entry.items() if k != "anyOf"}, **shape}
    job = definitions["JobSpec"]["properties"]
    job["stop_signal"]["anyOf"] = [{"enum": list(SIGNALS)}, {"type": "string"}]
    definitions["Notify"]["properties"]["webhook"]["pattern"] = "^(https://.+)?$"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Spinor job description",
        "anyOf": [{"$ref": "#/$defs/JobSpec"}, {"type": "array", "items": {"$ref": "#/$defs/JobSpec"}}],
        "$defs": definitions,
    }
