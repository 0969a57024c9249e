"""DIRAC's commands for the status of any element: its resource status system."""

from typing import TYPE_CHECKING, Any

from spinor.compat.jobs.program import Given, Program, Switch, Usage
from spinor.compat.jobs.words import client, filled_table, say, state
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.client import Client

_KINDS = {"Site": ("site",), "Resource": ("ce", "se")}
_TYPES = {"site": "Site", "ce": "ComputingElement", "se": "StorageElement"}
_STATUSES = ("Active", "Degraded", "Probing", "Banned")


def access_word(access: str | None) -> str:
    """read -> ReadAccess; what has no kinds of access has one status for all."""
    return f"{access.capitalize()}Access" if access else "all"


def change(connected: "Client", body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = connected.post("/api/resources/status", body, dict)
    return answer


def _kinds(given: Given) -> tuple[str, ...]:
    element = given.value("element")
    if element not in _KINDS:
        raise Usage(f"--element={printable(element or '')}: there are {' and '.join(_KINDS)}")
    return _KINDS[element]


def _listed(given: Given, name: str) -> list[str]:
    return [word for value in given.values(name) for word in value.split(",") if word]


def _rows(connected: "Client", given: Given) -> list[dict[str, Any]]:
    wanted = {name: _listed(given, name) for name in ("name", "elementType", "statusType", "status")}
    found = []
    for kind in _kinds(given):
        for row in connected.get("/api/resources/status", list[dict[str, Any]], query={"kind": kind}):
            facts = {
                "name": row["name"],
                "statusType": access_word(row.get("access")),
                "status": state(row["effective"]),
                "elementType": _TYPES[kind],
            }
            if all(not words or facts[name] in words for name, words in wanted.items()):
                found.append({**row, **facts, "kind": kind})
    return found


def _list(given: Given) -> int:
    with client() as connected:
        rows = _rows(connected, given)
    cells = [
        [printable(str(row[name])) for name in ("name", "statusType", "status", "elementType", "actor")] for row in rows
    ]
    for line in filled_table(("Name", "StatusType", "Status", "ElementType", "TokenOwner"), cells):
        say(line)
    return 0


def _set(given: Given) -> int:
    status, reason = given.value("status"), given.value("reason")
    if not _listed(given, "name") or status not in _STATUSES or not reason:
        raise Usage(f"--name, --reason and --status are wanted; a status is one of {', '.join(_STATUSES)}")
    narrowed = Given(given.words, {name: value for name, value in given.switches.items() if name != "status"})
    code = 0
    with client() as connected:
        rows = _rows(connected, narrowed)
        if not rows:
            say(f"Nothing found for {', '.join(map(printable, _listed(given, 'name')))}")
        for row in rows:
            where = f"{printable(row['name'])} ({row['statusType']})"
            if row["status"] == status:
                say(f"Status for {where} is already {status}. Ignoring..")
                continue
            body = {"kind": row["kind"], "names": [row["name"]], "status": status.lower(), "reason": reason}
            answer = change(connected, body | {"accesses": [row["access"]] if row.get("access") else []})
            for done in answer["done"]:
                say(f"{where}: {row['status']} -> {state(done['status'])}")
            for refused in answer["refused"]:
                code = 2
                say(f"ERROR {where}: {printable(refused['detail'])}")
    return code


_COMMON = (
    Switch("", "element=", "Element family: Site or Resource"),
    Switch("", "elementType=", "ComputingElement or StorageElement, with commas between them"),
    Switch("", "name=", "Names of elements, with commas between them"),
    Switch("", "statusType=", "ReadAccess, WriteAccess, CheckAccess, RemoveAccess or all, with commas between them"),
)

LIST = Program(
    "List the status of sites, computing elements and storage elements",
    _list,
    switches=(*_COMMON, Switch("", "status=", "Only those of this status, or of these")),
)
SET = Program(
    "Set the status of sites, computing elements and storage elements",
    _set,
    switches=(
        *_COMMON,
        Switch("", "status=", f"One of {', '.join(_STATUSES)}"),
        Switch("", "reason=", "Why; everybody sees it"),
    ),
)
