"""DIRAC's commands for the mask of sites, which is their status here."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from spinor.compat.jobs.program import Given, Program, Switch, Usage
from spinor.compat.jobs.words import client, filled_table, for_each, instant, say, show, state
from spinor.errors import NotFound
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.client import Client

_IN_MASK = frozenset({"active", "degraded"})


def _statuses(connected: "Client", name: str = "") -> list[dict[str, Any]]:
    query = {"kind": "site", **({"name": name} if name else {})}
    return connected.get("/api/resources/status", list[dict[str, Any]], query=query)


def _history(connected: "Client", name: str) -> list[dict[str, Any]]:
    return connected.get("/api/resources/history", list[dict[str, Any]], query={"kind": "site", "name": name})


def _change(given: Given, status: str, past: str) -> int:
    site, comment = given.words[0], " ".join(given.words[1:])
    with client() as connected:
        body = {"kind": "site", "names": [site], "status": status, "reason": comment}
        answer = connected.post("/api/resources/status", body, dict)
    for done in answer["done"]:
        rest = ""
        if status == "active" and done["status"] == "probing":
            rest = "; a probe job decides, and it is in use again when that succeeds"
        say(f"Site {printable(done['name'])} is {past} (status {state(done['status'])}{rest}).")
    for refused in answer["refused"]:
        say(f"ERROR {printable(refused['name'])}: {printable(refused['detail'])}")
    return 2 if answer["refused"] else 0


def _mask(_given: Given) -> int:
    with client() as connected:
        names = sorted(row["name"] for row in _statuses(connected) if row["effective"] in _IN_MASK)
    for name in names:
        say(printable(name))
    return 0


def _banned(_given: Given) -> int:
    with client() as connected:
        rows = [row for row in _statuses(connected) if row["effective"] not in _IN_MASK]
    cells = [
        (printable(row["name"]), state(row["status"]), _at(row.get("since")), f"( {printable(row['actor'])} )",
         printable(row["reason"]))
        for row in rows
    ]  # fmt: skip
    for line in filled_table(("Site", "Status", "Since", "By", "Comment"), cells) if cells else []:
        say(line)
    return 0


def _logging(given: Given) -> int:
    with client() as connected:

        def one(site: str) -> None:
            if not any(row["name"] == site for row in _statuses(connected, site)):
                raise NotFound(f"There is no site {printable(site)}.")
            say(f"Site Mask Logging Info for {printable(site)}")
            for row in reversed(_history(connected, site)):
                reason = f" {printable(row['reason'])}" if row["reason"] else ""
                say(f"{state(row['status'])}  {_at(row['at'])} ( {printable(row['actor'])} ){reason}")

        return for_each(given.words, one)


def _info(given: Given) -> int:
    from spinor.resources.models import Site

    with client() as connected:
        sites = {site.name: site for site in connected.get("/api/sites", list[Site])}

        def one(name: str) -> None:
            if name not in sites:
                raise NotFound(f"There is no site {printable(name)}.")
            site = sites[name]
            show({"CE": ", ".join(site.computing_elements), "Name": name, "SE": ", ".join(site.storage_elements)})

        return for_each(given.words, one)


def _debug(given: Given) -> int:
    """A pilot and a job for each of the elements: `spinor ce test`."""
    from spinor.identity.models import WhoAmI
    from spinor.pilots.cli.sites import test_element
    from spinor.resources.models import PublicComputingElement

    sites, names, types = (given.values(name) for name in ("site", "ce", "ce-type"))
    with client() as connected:
        vo = connected.get("/api/auth/whoami", WhoAmI).vo
        elements = connected.get("/api/computing-elements", list[PublicComputingElement])
    if given.words[0] != vo:
        raise Usage(f"you act in VO {vo}, and not in {printable(given.words[0])}; see spinor login --vo")
    chosen = [
        each.name
        for each in elements
        if (not sites or each.site in sites)
        and (not names or each.name in names)
        and (not types or each.plugin.lower() in [kind.lower() for kind in types])
    ]
    if not chosen:
        raise NotFound("There is no such computing element of your VO; `spinor ce list` shows them.")
    limit = f"{given.value('timeout') or '1800'}s"
    code = test_element.main([*chosen, "--timeout", limit], standalone_mode=False)
    return code if isinstance(code, int) else 0


def _at(text: str | None) -> str:
    return instant(datetime.fromisoformat(text)) if text else "None"


_EMAIL = (Switch("E", "email=", "Taken for DIRAC's sake: nobody is mailed"),)

ALLOW = Program(
    "Take a site into use again", lambda given: _change(given, "active", "allowed"), "Site Comment", _EMAIL, least=2
)
BAN = Program(
    "Take a site out of use", lambda given: _change(given, "banned", "banned"), "Site Comment", _EMAIL, least=2
)
MASK = Program("List the sites that are in use", _mask)
BANNED = Program("List the sites that are not in use, and why", _banned)
LOGGING = Program("Retrieve the history of a site's status", _logging, "Site ...", least=1)
DEBUG = Program(
    "Test computing elements step by step",
    _debug,
    "VO",
    (
        Switch("", "site=", "Select site (can be used multiple times)"),
        Switch("", "ce=", "Select CE (can be used multiple times)"),
        Switch("", "ce-type=", "Select the plugin (can be used multiple times)"),
        Switch("", "timeout=", "How long it may take, in seconds (default: 1800)"),
    ),
    least=1,
    example="$ dirac-admin-debug-ce dteam --site LCG.CERN.cern",
)
INFO = Program("Print what is known of a site", _info, "Site ...", least=1)
