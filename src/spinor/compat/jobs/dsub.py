"""dsub: a command or a script with options becomes a JDL, and that a job."""

import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinor.compat.jobs.program import Given, Program, Switch, Usage
from spinor.compat.jobs.submitting import described, submitted, text_of
from spinor.compat.jobs.words import client, say
from spinor.errors import NotFound
from spinor.terminal import printable

_DEFAULT = '[ OutputSandbox = {"std.out", "std.err"}; ]'
_LOOP = re.compile(r"([-+0-9.eE]+):([-+0-9.eE]+)(?::([-+0-9.eE]+))?(?::([-+0-9.eE]+))?")
_MOST_OF_A_LOOP = 1_000_000
# switch -> the attribute, and whether it is a list.
_ATTRIBUTES: dict[str, tuple[str, bool]] = {
    "JobName": ("JobName", False),
    "StdError": ("StdError", False),
    "StdOutput": ("StdOutput", False),
    "OutputSandbox": ("OutputSandbox", True),
    "InputSandbox": ("InputSandbox", True),
    "OutputData": ("OutputData", True),
    "InputData": ("InputData", True),
    "OutputPath": ("OutputPath", False),
    "OutputSE": ("OutputSE", False),
    "CPUTime": ("CPUTime", False),
    "Site": ("Site", True),
    "BannedSite": ("BannedSites", True),
    "Platform": ("Platform", False),
    "Priority": ("Priority", False),
    "JobGroup": ("JobGroup", False),
}

Attributes = dict[str, Any]  # Values as a JDL has them: text, numbers, lists.


def _dsub(given: Given) -> int:
    """The ids of the jobs, with commas between them."""
    with tempfile.TemporaryDirectory(prefix="dsub-") as folder:
        jdls = [jdl_of(job) for job in jobs_of(given, Path(folder))]
        if given.has("verbose"):
            for jdl in jdls:
                for line in ["JDL:", *jdl.splitlines()]:
                    say(printable(line))
        with client() as connected:
            specs = [spec for jdl in jdls for spec in described(connected, jdl)]
            arrays = submitted(connected, specs, Path())
    if given.has("verbose"):
        say("JobID:")
    say(",".join(str(job_id) for ids in arrays for job_id in ids))
    return 0


def jobs_of(given: Given, folder: Path) -> list[Attributes]:
    """The JDLs: that of the options over the script's own lines over the given or default one."""
    jdl = given.value("JDL") or _DEFAULT
    job = parsed(text_of(jdl) if len(jdl) < 256 and "=" not in jdl else jdl)
    words = given.words or ([str(job["Executable"])] if "Executable" in job else [])
    if words:
        script, directives, name = _named(given, words[0])
    else:
        script, directives, name = _typed(folder)
    job |= parsed("".join(directives))
    for switch, (attribute, is_list) in _ATTRIBUTES.items():
        if (value := given.value(switch)) is not None:
            job[attribute] = [each for each in value.strip("{}").split(",") if each] if is_list else value
    sends = script.parent == folder or given.has("ForceExecUpload") or not str(script).startswith("/")
    job["Executable"] = script.name if sends else str(script)
    if sends:
        sandbox = job.get("InputSandbox", [])
        job["InputSandbox"] = [*(sandbox if isinstance(sandbox, list) else [sandbox]), str(script)]
        job.setdefault("JobName", name)
    if words[1:]:
        job["Arguments"] = " ".join(words[1:])
    return _parametric(job, given)


def _named(given: Given, word: str) -> tuple[Path, list[str], str]:
    script = Path(word)
    if not script.is_file() and (given.has("ForceExecUpload") or not word.startswith("/")):
        raise NotFound(f'Executable file "{printable(word)}" not found')
    try:
        lines = script.read_text(encoding="utf-8").splitlines() if script.is_file() else []
    except (UnicodeDecodeError, PermissionError):
        lines = []  # A binary has no lines of JDL.
    return script, _directives(lines), script.name


def _typed(folder: Path) -> tuple[Path, list[str], str]:
    """A script on standard input."""
    if sys.stdin.isatty():
        sys.stderr.write("\nThe executable is not given\nType in the executable script lines, finish with ^D\n"
                         "or exit job submission with ^C\n\n")  # fmt: skip
    text = sys.stdin.read()
    script = folder / "stdin.sh"
    script.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}", encoding="utf-8")
    script.chmod(0o755)
    return script, _directives(text.splitlines()), "STDIN"


def _directives(lines: Sequence[str]) -> list[str]:
    return [f"{line[5:].strip().rstrip(';')};\n" for line in lines if line.startswith("#JDL ")]


def parsed(text: str) -> Attributes:
    from spinor.jobs.description.jdl.syntax import attributes

    return {attribute.name: attribute.value for attribute in attributes(text)}


def _parametric(job: Attributes, given: Given) -> list[Attributes]:
    """One JDL for the named values, and one for each loop (start:stop[:step[:factor]])."""
    text = given.value("Parametric") or str(job.pop("Parametric", ""))
    if not text:
        return [job]
    values, loops = [], []
    for word in text.split(","):
        match = _LOOP.fullmatch(word)
        if match:
            loops.append(match.groups())
        else:
            values.append(word)
    found = [{**job, "Parameters": values}] if values else []
    for start, stop, step, factor in loops:
        first, last, by, times = (_number(each or "1") for each in (start, stop, step, factor))
        count = _length(first, last, by, times)
        more = {"Parameters": count, "ParameterStart": first, "ParameterStep": by, "ParameterFactor": times}
        found.append({**job, **more})
    return found


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise Usage(f"{printable(text)!r} in --Parametric is no number") from None


def _length(first: float, last: float, step: float, factor: float) -> int:
    """How many values there are from the first on, before the last."""
    rising, value, count = first < last, first, 0
    while (value < last) if rising else (value > last):
        count += 1
        following = value * factor + step
        if (following <= value) if rising else (following >= value):
            raise Usage(f"--Parametric: {first}:{last}:{step}:{factor} never comes to its end")
        if count > _MOST_OF_A_LOOP:
            raise Usage(f"--Parametric: {first}:{last}:{step}:{factor} has more than {_MOST_OF_A_LOOP:,} values")
        value = following
    return count


def jdl_of(job: Mapping[str, Any]) -> str:
    return "[\n" + "".join(f"  {name} = {_literal(value)};\n" for name, value in job.items()) + "]"


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return "{" + ", ".join(map(_literal, value)) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value.text)  # An expression stays as it was written.


DSUB = Program(
    "Submit a command or a script as a job",
    _dsub,
    "[executable [arguments ...]]",
    (
        Switch("J", "JDL=", "JDL file or inline"),
        Switch("N", "JobName=", "job name"),
        Switch("E", "StdError=", "job standard error file"),
        Switch("O", "StdOutput=", "job standard output file"),
        Switch("", "OutputSandbox=", "job output sandbox"),
        Switch("", "InputSandbox=", "job input sandbox"),
        Switch("", "OutputData=", "job output data"),
        Switch("", "InputData=", "job input data"),
        Switch("", "OutputPath=", "job output data path prefix"),
        Switch("", "OutputSE=", "job output data SE"),
        Switch("", "CPUTime=", "job CPU time limit (in seconds)"),
        Switch("", "Site=", "job Site list"),
        Switch("", "BannedSite=", "job Site exclusion list"),
        Switch("", "Platform=", "job Platform list"),
        Switch("", "Priority=", "job priority"),
        Switch("", "JobGroup=", "job JobGroup"),
        Switch("", "Parametric=", "values with commas, or <start>:<stop>[:<step>[:<factor>]]"),
        Switch("", "ForceExecUpload", "Force upload of executable with InputSandbox"),
        Switch("v", "verbose", "verbose output"),
    ),
)
