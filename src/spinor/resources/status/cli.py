"""`spinor site|ce|se status|show|ban|drain|probe|degrade|resume|history`."""

from typing import Any

import click

from spinor.terminal import output_options

_COLUMNS = ("name", "status", "since", "until", "actor", "reason")
_ACCESSES = ("read", "write", "check", "remove")


def add_commands(group: click.Group, kind: str, noun: str) -> None:
    """Give a group of commands those about the status of its elements."""
    storage = kind == "se"
    for make in (_status, _show, _ban, _probe if storage else _drain, _degrade, _resume, _history):
        group.add_command(make(kind, noun))


def _columns(kind: str, *columns: str) -> tuple[str, ...]:
    """With the kind of access, where there are several."""
    return (columns[0], "access", *columns[1:]) if kind == "se" else columns


def _status(kind: str, noun: str) -> click.Command:
    @click.command("status", help=f"Say whether the {noun}s NAMES (all without any) may be used, why not, since when.")
    @click.argument("names", nargs=-1)
    @output_options
    def status(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
        from spinor.client import Client
        from spinor.terminal import show

        with Client.from_environment() as client:
            rows = [row for name in names or ("",) for row in _statuses(client, kind, name)]
        whole = ("name", "effective", "status", "since", "until", "actor", "next_probe_at", "reason")
        columns = _columns(kind, *_COLUMNS) if kind == "se" else whole
        show(rows, columns, id_field="name", as_json=as_json, quiet=quiet)

    return status


def _show(kind: str, noun: str) -> click.Command:
    @click.command("show", help=f"Show the {noun}s NAMES: what they offer, and the status of each of their parts.")
    @click.argument("names", nargs=-1, required=True)
    @click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
    def show_(names: tuple[str, ...], as_json: bool) -> None:
        from spinor.client import Client
        from spinor.terminal import show, show_one

        with Client.from_environment() as client:
            everything = _statuses(client)
            for name in names:
                # A name that is not there is refused by this one, with the server's words.
                parts = _statuses(client, kind, name)
                for row in _facts(client, kind):
                    if row.name == name:
                        show_one(row, as_json=as_json, skip=("held",))
                if kind == "site":
                    parts += [each for each in everything if each.kind == "ce" and each.site == name]
                first = "access" if kind == "se" else "kind"
                show(parts, (first, *_COLUMNS), id_field="name", as_json=as_json)

    return show_


def _changing(
    kind: str, verb: str, wanted: str, words: str, *, ends: bool = True, reasoned: bool = True
) -> click.Command:
    @click.command(verb, help=words)
    @click.argument("names", nargs=-1, required=True)
    @click.option(
        "--reason", required=reasoned, default="", help="Why; everybody sees it, and it is kept in the history."
    )
    @output_options
    def change(
        names: tuple[str, ...], reason: str, as_json: bool, quiet: bool, accesses: tuple[str, ...] = (), **more: Any
    ) -> int:
        body = {"kind": kind, "names": list(names), "status": wanted, "reason": reason, "until": _until(**more)}
        return _changed(body | {"accesses": list(accesses)}, as_json=as_json, quiet=quiet)

    if kind == "se":
        words = "Only this kind of access (all unless told); may be repeated."
        change = click.option("--access", "accesses", multiple=True, type=click.Choice(_ACCESSES), help=words)(change)
    if ends:
        change = click.option("--until", type=click.DateTime(), help="When it ends by itself (UTC).")(change)
        change = click.option("--for", "lasting", default="", help="How long it holds, for example 4h or 2d.")(change)
    return change


def _ban(kind: str, noun: str) -> click.Command:
    words = (
        f"Ban the {noun}s NAMES at once: no new pilots, no more jobs for those that are there; running jobs go on. "
        "A ban ends by a successful probe only: see resume."
    )
    if kind == "se":
        words = f"Ban the {noun}s NAMES at once: nobody reads, writes, checks or removes there, or what --access names."
    return _changing(kind, "ban", "banned", words)


def _drain(kind: str, noun: str) -> click.Command:
    words = (
        f"Drain the {noun}s NAMES: no new pilots; those that are there take no more jobs, and leave when theirs end."
    )
    return _changing(kind, "drain", "draining", words)


def _probe(kind: str, noun: str) -> click.Command:
    words = (
        f"Let only those who look after sites use the {noun}s NAMES, or what --access names, until one of them resumes "
        "it: to find out whether it works."
    )
    return _changing(kind, "probe", "probing", words, ends=False)


def _degrade(kind: str, noun: str) -> click.Command:
    words = f"Use the {noun}s NAMES only where no other one has room."
    if kind == "se":
        words = f"Read from the {noun}s NAMES only where there is no other replica."
    return _changing(kind, "degrade", "degraded", words)


def _resume(kind: str, noun: str) -> click.Command:
    words = f"Take the {noun}s NAMES into use again; what is banned is probed first, and comes back when that succeeds."
    if kind == "se":
        words = f"Take the {noun}s NAMES into use again, or what --access names."
    return _changing(kind, "resume", "active", words, ends=False, reasoned=False)


def _history(kind: str, noun: str) -> click.Command:
    @click.command("history", help=f"List the changes of status of the {noun} NAME (of all without one), newest first.")
    @click.argument("name", default="")
    @click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many at most.")
    @output_options
    def history(name: str, limit: int, as_json: bool, quiet: bool) -> None:
        from spinor.client import Client
        from spinor.resources.status.models import StatusChange
        from spinor.terminal import show

        query = {"kind": kind, "limit": limit} | ({"name": name} if name else {})
        with Client.from_environment() as client:
            rows = client.get("/api/resources/history", list[StatusChange], query=query)
        columns = _columns(kind, "name", "old", "status", "actor", "until", "reason")
        columns = ("at", *columns)
        show(rows, columns, id_field="name", as_json=as_json, quiet=quiet)

    return history


def _statuses(client: Any, kind: str = "", name: str = "") -> list[Any]:
    from spinor.resources.status.models import ElementStatus

    query = ({"kind": kind} if kind else {}) | ({"name": name} if name else {})
    found: list[Any] = client.get("/api/resources/status", list[ElementStatus], query=query)
    return found


def _facts(client: Any, kind: str) -> list[Any]:
    from spinor.resources.models import PublicComputingElement, PublicStorageElement, Site

    paths: dict[str, tuple[str, Any]] = {
        "site": ("/api/sites", Site),
        "ce": ("/api/computing-elements", PublicComputingElement),
        "se": ("/api/storage-elements", PublicStorageElement),
    }
    path, model = paths[kind]
    found: list[Any] = client.get(path, list[model])  # type: ignore[valid-type]
    return found


def _until(until: Any = None, lasting: str = "") -> str | None:
    from datetime import UTC, datetime, timedelta

    from spinor import quantities
    from spinor.errors import BadInput

    if until is not None and lasting:
        raise BadInput("Give --until or --for, not both.")
    if lasting:
        try:
            return (datetime.now(UTC) + timedelta(seconds=float(quantities.duration_s(lasting)))).isoformat()
        except ValueError as error:
            raise BadInput(f"--for: {lasting!r} is not {error}.") from None
    return until.replace(tzinfo=UTC).isoformat() if until is not None else None


def _changed(body: dict[str, Any], *, as_json: bool, quiet: bool) -> int:
    from spinor.client import Client
    from spinor.resources.status.models import StatusesChanged
    from spinor.terminal import say, show

    with Client.from_environment() as client:
        answer = client.post("/api/resources/status", body, StatusesChanged)
    show(answer.done, _columns(body["kind"], *_COLUMNS), id_field="name", as_json=as_json, quiet=quiet)
    for refused in answer.refused:
        say(refused.detail)
    codes = {refused.code for refused in answer.refused}
    if not codes:
        return 0
    return 3 if "unknown-element" in codes else 4 if "not-administrator" in codes else 5
