"""What a JDL asks of the place where it runs: sites, processors, memory, time, tags."""

import re
from typing import Any

from spinor.jobs.description.faults import shown
from spinor.jobs.description.jdl.command import SLOW_CORE_HS23
from spinor.jobs.description.jdl.reading import Reading

DEFAULT_CPU_TIME = 86_400  # DIRAC's, in normalised seconds.
MAX_CORES = 1024
_MEGABYTE = 10**6
_MACHINE = re.compile(r"x86_64|amd64|aarch64|arm64|ppc64le|s390x|riscv64|i[3-6]86", re.IGNORECASE)
_SAME_MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}
_PROCESSORS = re.compile(r"([1-9][0-9]{0,3})processors", re.IGNORECASE)


def fields(reading: Reading) -> dict[str, Any]:
    found: dict[str, Any] = {}
    tags, implied = _tags(reading)
    if tags:
        found["tags"] = tags
    found |= _sites(reading) | _platform(reading) | implied | _cores(reading) | _memory(reading) | _time(reading)
    if found.get("whole_node"):
        found.pop("max_cores", None)  # Such a job has every core there is.
    return found


def _sites(reading: Reading) -> dict[str, Any]:
    name = reading.first_of("Site", "Sites")
    sites = [site for site in reading.fixed_words(name) if site.upper() != "ANY"] if name else []
    banned = reading.fixed_words("BannedSites")
    left = [site for site in sites if site not in banned]
    if sites and not left:
        raise reading.refuse("BannedSites", f"bans every site of {name}, so that none is left")
    ces = reading.first_of("GridCE", "GridRequiredCEs")
    if ces == "GridRequiredCEs":
        reading.warn(ces, "it is the old name of GridCE")
    return {
        "sites": left,
        "banned_sites": [] if sites else banned,
        "computing_elements": [word for word in reading.fixed_words(ces) if word.upper() != "ANY"] if ces else [],
    }


def _platform(reading: Reading) -> dict[str, Any]:
    name = reading.first_of("Platform", "SystemConfig")
    if name is None:
        return {}
    if name == "SystemConfig":
        reading.warn(name, "it is the old name of Platform")
    text = reading.fixed(name)
    if text.upper() in ("", "ANY"):
        return {}
    match = _MACHINE.search(text)
    if match is None:
        raise reading.refuse(name, f"{shown(text)} names no machine, such as x86_64; a system comes with an image")
    machine = _SAME_MACHINE.get(match.group().lower(), match.group().lower())
    if text.lower() != match.group().lower():
        reading.warn(name, f"of {shown(text)} only {machine} counts; take a container image for the system")
    return {"platform": machine}


def _tags(reading: Reading) -> tuple[list[str], dict[str, Any]]:
    """The tags that remain, and the fields that say what others mean."""
    name = reading.first_of("Tag", "Tags")
    tags: list[str] = []
    implied: dict[str, Any] = {}
    for tag in dict.fromkeys(reading.fixed_words(name) if name else []):
        processors = _PROCESSORS.fullmatch(tag)
        if tag.upper() == "GPU":
            implied["gpus"] = 1
            reading.warn(name or "Tag", "GPU became `gpus: 1`")
        elif tag.lower() == "wholenode":
            implied["whole_node"] = True
        elif processors:
            implied["cores"] = implied["max_cores"] = min(int(processors.group(1)), MAX_CORES)
        elif tag.lower() == "multiprocessor":
            reading.warn(name or "Tag", "MultiProcessor is left out: the number of processors says it")
        else:
            tags.append(tag)
    return tags, implied


def _cores(reading: Reading) -> dict[str, Any]:
    exact = reading.number("NumberOfProcessors", 1, MAX_CORES)
    least = reading.number("MinNumberOfProcessors", 1, MAX_CORES)
    most = reading.number("MaxNumberOfProcessors", 1, MAX_CORES)
    found: dict[str, Any] = {}
    if exact is not None:
        for name in ("MinNumberOfProcessors", "MaxNumberOfProcessors"):
            if name in reading:
                reading.warn(name, "it is left out: NumberOfProcessors is exact")
        found = {"cores": exact, "max_cores": exact}
    elif least is not None or most is not None:
        found = {"cores": least or 1, "max_cores": most or MAX_CORES}
        if most is not None and most < (least or 1):
            raise reading.refuse("MaxNumberOfProcessors", f"is {most}, less than MinNumberOfProcessors, {least}")
    if "WholeNode" in reading and reading.flag("WholeNode"):
        found["whole_node"] = True
    return found


def _memory(reading: Reading) -> dict[str, Any]:
    least, most = reading.number("MinRAM", 0, 10**9), reading.number("MaxRAM", 0, 10**9)
    wanted = max(least or 0, most or 0)
    if least and most and most != least:
        reading.warn("MaxRAM", f"{wanted:,} MB are asked for: what a job asks for is its limit, too")
    return {"memory_bytes": wanted * _MEGABYTE} if wanted else {}


def _time(reading: Reading) -> dict[str, Any]:
    name = reading.first_of("CPUTime", "MaxCPUTime")
    if name == "MaxCPUTime":
        reading.warn(name, "it is the old name of CPUTime")
    given = reading.number(name, 1, 10**9) if name else None
    wall_s = -(-(given or DEFAULT_CPU_TIME) // SLOW_CORE_HS23)
    found: dict[str, Any] = {"wall_s": max(wall_s, 60)}
    if given is not None:
        found["cpu_work_hs23_s"] = float(given)
        reading.warn(name or "CPUTime", f"the time limit is {found['wall_s']:,} s, which a slow core needs for it")
    priority = reading.number("Priority", 0, 10)
    if priority is not None:
        # DIRAC's default is 1 of 10 and ours 5 of 9: what is more there is more here.
        found["priority"] = 2 if priority == 0 else min(9, 5 + -(-(priority - 1) * 4 // 9))
    return found
