"""dirac-wms-job-submit and dirac-wms-match, and the way from a JDL to jobs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinor.compat.jobs.program import Given, Program, Switch
from spinor.compat.jobs.words import client, filled_table, say
from spinor.errors import NotFound, SpinorError
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import JobSpec


def described(connected: "Client", text: str) -> "list[JobSpec]":
    """The jobs of a JDL; what it says that has no counterpart is told on stderr."""
    from spinor.identity.models import WhoAmI
    from spinor.jobs.description.jdl import translate

    who = connected.get("/api/auth/whoami", WhoAmI)
    found = translate(text, f"/{who.vo}/user/{who.user[:1]}/{who.user}")
    for warning in found.warnings:
        sys.stderr.write(f"warning: {printable(str(warning))}\n")
    return list(found.specs)


def submitted(connected: "Client", specs: "Sequence[JobSpec]", folder: Path) -> list[list[int]]:
    """The ids of each array."""
    from spinor.jobs.cli.submission import send

    answer = send(connected, [(spec, folder) for spec in specs])
    for warning in answer.warnings:
        sys.stderr.write(f"warning: {printable(warning)}\n")
    return [array.ids for array in answer.arrays]


def text_of(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"There is no file {printable(name)}.") from None


def _submit(given: Given) -> int:
    errors, ids_file = [], given.value("File")
    with client() as connected:
        for name in given.words:
            try:
                specs = described(connected, text_of(name))
                arrays = submitted(connected, specs, Path())
            except SpinorError as error:
                errors.append((name, error.message))
                continue
            for spec, ids in zip(specs, arrays, strict=True):
                say(f"JobID = {ids if spec.parameters else ids[0]}")
                if ids_file:
                    with Path(ids_file).open("a", encoding="utf-8") as file:
                        file.writelines(f"{job_id}\n" for job_id in ids)
    for name, message in errors:
        say(f"ERROR {printable(name)}: {printable(message)}")
    return 2 if errors else 0


def _match(given: Given) -> int:
    """What the service says of each computing element when it checks the description."""
    import msgspec

    from spinor.jobs.models import Checked, SubmitJobs

    wanted = [site for text in given.values("site") for site in text.split(",") if site]
    with client() as connected:
        specs = [msgspec.structs.replace(s, input_sandbox=[]) for s in described(connected, text_of(given.words[0]))]
        checked = connected.post("/api/jobs/check", SubmitJobs(specs=specs), Checked)
        statuses = connected.get("/api/resources/status", list[dict[str, Any]], query={"kind": "ce"})
    active = {row["name"] for row in statuses if row["effective"] in ("active", "degraded")}
    rows = [
        (
            printable(element.site),
            printable(element.computing_element),
            "Active" if element.computing_element in active else "Inactive",
            "No" if element.excluded_by else "Yes",
            printable("; ".join(element.excluded_by)),
        )
        for array in checked.arrays
        for element in array.elements
        if not wanted or element.site in wanted
    ]
    for line in filled_table(("Site", "CE", "Status", "Match", "Reason"), sorted(rows)):
        say(line)
    return 0


MATCH = Program(
    "Say which computing elements are able to run a job, and why the others are not",
    _match,
    "JDL",
    (
        Switch("F", "full-match", "Taken for DIRAC's sake: everything is checked"),
        Switch("S", "site=", "Check matching for these sites (comma separated list)"),
    ),
    least=1,
)
SUBMIT = Program(
    "Submit jobs",
    _submit,
    "JDL ...",
    (
        Switch("f", "File=", "Writes job ids to file <value>"),
        Switch("r", "UseJobRepo=", "Taken for DIRAC's sake: `spinor job list` knows all jobs"),
    ),
    least=1,
    example="$ dirac-wms-job-submit Simple.jdl\nJobID = 11",
)
