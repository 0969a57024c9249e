"""JDL -> JobSpec."""

import msgspec

from spinor.jobs.description.jdl import command, files, resources
from spinor.jobs.description.jdl.reading import Reading
from spinor.jobs.description.jdl.syntax import BadJDL, attributes
from spinor.jobs.description.jdl.words import DROPPED
from spinor.jobs.models import JobSpec


class Translation(msgspec.Struct, frozen=True, kw_only=True):
    """Descriptions that say what a foreign text says, and what was lost or changed on the way."""

    specs: list[JobSpec]
    warnings: list[str] = []


def translate(text: str, home: str = "") -> Translation:
    """One JDL is one array. `home` is where output files without an LFN of their own go, such as /astro/user/a/ada.

    Raises BadJDL with line and column. Input sandboxes are still paths of this machine.
    """
    reading = Reading(attributes(text))
    if "Executable" not in reading:
        raise BadJDL("There is no Executable in the JDL; name the program to run.", field="Executable")
    fields = {
        **command.fields(reading),
        **files.fields(reading, home),
        **resources.fields(reading),
    }
    for name, why in DROPPED.items():
        if name in reading:
            reading.warn(name, f"it is left out: {why}")
    # Last, since only then it is known which sequences are used.
    fields["parameters"] = reading.parameters.used()
    return Translation(specs=[JobSpec(**fields)], warnings=reading.warnings)
