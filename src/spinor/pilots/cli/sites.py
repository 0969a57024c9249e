"""`spinor site|ce test` and `spinor ce nodes|mask|unmask`."""

import sys
from typing import Any

import click

from spinor.resources.cli import ce, site
from spinor.terminal import output_options

__all__ = ["ce", "site"]

_MARKS = {"ok": "✓", "failed": "✗", "skipped": "-", "running": "…", "waiting": " "}


@site.command("test")
@click.argument("name")
@click.option("--ce", "elements", multiple=True, help="Only this computing element of the site; may be repeated.")
@click.option("--se", default="", help="Let the job leave a file on this storage element; it is removed afterwards.")
@click.option("--timeout", default="15m", show_default=True, help="How long it may take, for example 2h.")
@click.option("--json", "as_json", is_flag=True, help="Print the probes as JSON, one a line, when they have ended.")
def test_site(name: str, elements: tuple[str, ...], se: str, timeout: str, as_json: bool) -> int:
    """Send a pilot and a job to each computing element of the site NAME, and explain every step.

    It works on sites that are banned, draining or probing, too. The exit code is 0 when all steps of all elements were
    good, else 1.
    """
    return _test({"site": name, "computing_elements": list(elements), "se": se}, timeout, as_json=as_json)


@ce.command("test")
@click.argument("names", nargs=-1, required=True)
@click.option("--se", default="", help="Let the job leave a file on this storage element; it is removed afterwards.")
@click.option("--timeout", default="15m", show_default=True, help="How long it may take, for example 2h.")
@click.option("--json", "as_json", is_flag=True, help="Print the probes as JSON, one a line, when they have ended.")
def test_element(names: tuple[str, ...], se: str, timeout: str, as_json: bool) -> int:
    """Send a pilot and a job to each of the computing elements NAMES, and explain every step."""
    return _test({"computing_elements": list(names), "se": se}, timeout, as_json=as_json)


@ce.command("nodes")
@click.argument("name", default="")
@output_options
def nodes(name: str, as_json: bool, quiet: bool) -> None:
    """List the masked nodes of the computing element NAME (of all without one): their pilots get no jobs."""
    from spinor.client import Client
    from spinor.pilots.models import NodeMask
    from spinor.terminal import show

    query = {"computing_element": name} if name else {}
    with Client.from_environment() as client:
        rows = client.get("/api/pilots/nodes", list[NodeMask], query=query)
    columns = ("computing_element", "hostname", "until", "actor", "reason")
    show(rows, columns, id_field="hostname", as_json=as_json, quiet=quiet)


@ce.command("mask")
@click.argument("name")
@click.argument("hostnames", nargs=-1, required=True)
@click.option("--reason", required=True, help="Why; everybody sees it.")
@click.option("--for", "lasting", default="6h", show_default=True, help="How long it holds.")
def mask(name: str, hostnames: tuple[str, ...], reason: str, lasting: str) -> None:
    """Give no jobs to pilots on the nodes HOSTNAMES of the computing element NAME for a while."""
    _mask(name, hostnames, reason, _seconds("--for", lasting), "masked")


@ce.command("unmask")
@click.argument("name")
@click.argument("hostnames", nargs=-1, required=True)
def unmask(name: str, hostnames: tuple[str, ...]) -> None:
    """Lift the masks of the nodes HOSTNAMES of the computing element NAME."""
    _mask(name, hostnames, "", 0, "unmasked")


def _mask(name: str, hostnames: tuple[str, ...], reason: str, lasting_s: int, done: str) -> None:
    from spinor.client import Client
    from spinor.terminal import say

    body = {"computing_element": name, "hostnames": list(hostnames), "reason": reason, "lasting_s": lasting_s}
    with Client.from_environment() as client:
        changed = client.post("/api/pilots/nodes", body, list[str])
    say(f"{len(changed)} {done}")


def _seconds(option: str, text: str) -> int:
    from spinor import quantities
    from spinor.errors import BadInput

    try:
        return int(quantities.duration_s(text))
    except ValueError as error:
        raise BadInput(f"{option}: {text!r} is not {error}.") from None


def _test(body: dict[str, Any], timeout: str, *, as_json: bool) -> int:
    import msgspec

    from spinor.client import Client
    from spinor.pilots.probes.models import Probe

    body["timeout_s"] = _seconds("--timeout", timeout)
    with Client.from_environment() as client:
        probes = client.post("/api/probes", body, list[Probe])
        ended = [_follow(client, probe, told=not as_json) for probe in probes]
    if as_json:
        for probe in ended:
            click.echo(msgspec.json.encode(probe).decode())
    return 0 if all(probe.succeeded for probe in ended) else 1


def _follow(client: Any, probe: Any, *, told: bool) -> Any:
    """Print the steps as they come, with the pilot's own words between them; the probe at its end."""
    from spinor.pilots.probes.models import Probe

    if told:
        click.echo(f"{probe.computing_element} (site {probe.site}), probe {probe.probe_id}")
    shown, position, note = 0, 0, ""
    while True:
        query = {"seen": probe.version, "wait_s": 2}
        probe = client.get(f"/api/probes/{probe.probe_id}", Probe, query=query)
        if told:
            position = _tell_log(client, probe.pilot_id, position)
            while shown < len(probe.steps) and probe.steps[shown].state not in ("running", "waiting"):
                _tell(probe.steps[shown])
                shown += 1
            if shown < len(probe.steps) and probe.steps[shown].state == "running":
                step = probe.steps[shown]
                words = f"{step.name}: {step.detail}" if step.detail else step.name
                if words != note and sys.stderr.isatty():
                    click.echo(f"  … {words}", err=True)
                note = words
        if probe.ended_at is not None:
            return probe


def _tell(step: Any) -> None:
    from spinor.terminal import duration, printable

    took = f" ({duration(step.took_s)})" if step.took_s is not None else ""
    detail = f"  {printable(step.detail)}" if step.detail else ""
    click.echo(f"  {_MARKS[step.state]} {step.name:<16}{step.state}{took}{detail}")
    if step.remedy:
        click.echo(f"    {'':<16}{step.remedy}")


def _tell_log(client: Any, pilot_id: int | None, position: int) -> int:
    from spinor.terminal import printable

    if pilot_id is None:
        return position
    data: bytes = client.get(f"/api/pilots/{pilot_id}/log", query={"position": position})
    for line in data.decode(errors="replace").splitlines():
        click.echo(f"    | {printable(line)}")
    return position + len(data)
