"""What a JDL wants to run: program, arguments, environment, its names and its end."""

import re
import shlex
from typing import Any
from urllib.parse import unquote

from spinor.jobs.description.checks import SIGNALS
from spinor.jobs.description.faults import shown
from spinor.jobs.description.jdl.reading import Reading

# HS23 of a slow core: what turns DIRAC's normalised seconds into seconds of a clock, with room to spare.
SLOW_CORE_HS23 = 5
_STAND = re.compile(r"%(?:s|n|\([^()%]*\)s)")
# What a shell would act on, outside of quotes and inside of double ones.
_ACTS = frozenset("$`|&;<>()*?[~#\n")
_ACTS_QUOTED = frozenset("$`")
_SIGNAL_NUMBERS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 10: "SIGUSR1", 12: "SIGUSR2", 14: "SIGALRM", 15: "SIGTERM"}
_SIGNAL_NUMBERS |= {18: "SIGCONT", 24: "SIGXCPU"}


def fields(reading: Reading) -> dict[str, Any]:
    found: dict[str, Any] = _command_line(reading)
    found["name"] = _name(reading)
    found["job_group"] = reading.fixed("JobGroup")
    job_type = reading.fixed("JobType")
    if job_type:
        found["job_type"] = "user" if job_type.lower() == "user" else job_type
    found["environment"] = _environment(reading)
    return found | _stop(reading)


def _command_line(reading: Reading) -> dict[str, Any]:
    program = reading.raw("Executable").strip()
    if not program:
        raise reading.refuse("Executable", "is empty; name the program to run")
    arguments = " ".join(reading.words("Arguments")) if _is_list(reading) else reading.raw("Arguments")
    if program.rpartition("/")[2] == "dirac-jobexec":
        reading.warn("Executable", "dirac-jobexec runs DIRAC's workflows, so that DIRAC must be where the job runs")
    sent = {word.rpartition("/")[2] for word in reading.words("InputSandbox")}
    if "/" not in program and program in sent:
        program = f"./{program}"
    try:
        words = shlex.split(arguments)
    except ValueError:
        raise reading.refuse("Arguments", f"a quote in {shown(arguments)} is never closed") from None
    if not _needs_shell(_STAND.sub("x", arguments)) and "$" not in program:
        found = {
            "executable": reading.convert("Executable", program),
            "arguments": [reading.convert("Arguments", word) for word in words],
        }
        if reading.parameters.stands_in(arguments) and reading.parameters.have_spaces():
            reading.warn("Arguments", "a parameter's value with spaces in it is one argument, and not split any more")
        return found
    line = f"{program if '$' in program else shlex.quote(program)} {arguments}".rstrip()
    name = "Arguments" if "Arguments" in reading else "Executable"
    reading.warn(name, "it has what a shell acts on, so that /bin/sh runs it")
    return {"executable": "/bin/sh", "arguments": ["-c", reading.convert("Executable", line)]}


def _is_list(reading: Reading) -> bool:
    return "Arguments" in reading and reading.is_list("Arguments")


def _needs_shell(text: str) -> bool:
    quote, position = "", 0
    while position < len(text):
        character = text[position]
        if character == "\\" and quote != "'":
            position += 1
        elif quote:
            if character == quote:
                quote = ""
            elif quote == '"' and character in _ACTS_QUOTED:
                return True
        elif character in "\"'":
            quote = character
        elif character in _ACTS:
            return True
        position += 1
    return False


def _name(reading: Reading) -> str:
    name = reading.raw("JobName").strip()
    if not reading.parameters.stands_in(name):
        return name
    name = _STAND.sub("", name).strip(" _-.")
    reading.warn("JobName", f"all jobs of an array have one name, {shown(name)}; what differs is left out")
    return name


def _environment(reading: Reading) -> dict[str, str]:
    if "ExecutionEnvironment" not in reading:
        return {}
    given: list[str] = []
    if reading.is_list("ExecutionEnvironment"):
        given = reading.words("ExecutionEnvironment")
    else:
        given = reading.raw("ExecutionEnvironment").split(";")
    found: dict[str, str] = {}
    for word in given:
        name, equals, value = word.strip().partition("=")
        if not name and not equals:
            continue
        if not equals or not name.strip():
            raise reading.refuse("ExecutionEnvironment", f"{shown(word)} is not of the form NAME=VALUE")
        found[name.strip()] = reading.convert("ExecutionEnvironment", unquote(value))
    return found


def _stop(reading: Reading) -> dict[str, Any]:
    if not any(name in reading for name in ("StopSigRegex", "StopSigNumber", "StopSigFinishWork", "StopSigStartWork")):
        return {}
    number = reading.number("StopSigNumber", 1, 64)
    signal = _SIGNAL_NUMBERS.get(2 if number is None else number)
    if signal is None:
        raise reading.refuse("StopSigNumber", f"{number} is not a signal to act on; there is {', '.join(SIGNALS)}")
    found: dict[str, Any] = {"stop_signal": signal}
    work = reading.number("StopSigFinishWork", 0, 10**9)
    if work:
        found["stop_margin_s"] = -(-work // SLOW_CORE_HS23)
        reading.warn("StopSigFinishWork", f"the signal goes out {found['stop_margin_s']:,} s before the time limit")
    return found
