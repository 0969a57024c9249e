"""`spinor up`, `down`, `status` and `doctor`: the commands of the machine that carries the service."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from spinor.x509.diagnosis.cli import cert

NOT_HEALTHY, NOT_UP = 1, 3

_data = click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="The data directory. Else $SPINOR_DATA_DIR, ~/.local/share/spinor, or for root /var/lib/spinor/default.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")


@click.command()
@_data
@click.option("--port", type=click.IntRange(1, 65535), help="The wished port; the next free one when it is taken.")
@click.option("--foreground", is_flag=True, help="Stay in the foreground, as a service of systemd or a container.")
def up(data_dir: Path | None, port: int | None, foreground: bool) -> None:
    """Start Spinor on this machine: database, certificates, server, worker. Up already is a success."""
    from spinor.embedded import up as verbs

    if foreground:
        sys.exit(verbs.stay_up(data_dir, port=port))
    running = verbs.up(data_dir, port=port)
    if port is not None and port != running.port and not running.was_up:
        click.echo(f"Port {port} is taken; using {running.port}.", err=True)
    click.echo(f"Spinor is {'already ' if running.was_up else ''}up at {running.url}")
    click.echo(f"  data {running.data_dir}\n  CA   {running.ca_file}", err=True)


@click.command()
@_data
def down(data_dir: Path | None) -> None:
    """Stop Spinor on this machine. The data stays."""
    from spinor.embedded import up as verbs

    click.echo("Spinor is down." if verbs.down(data_dir) else "Spinor was not up.")


@click.command()
@_data
@_json
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show each part: version, health, process, uptime, log. Exits 1 when one is unhealthy, 3 when Spinor is not up."""
    from spinor.embedded import up as verbs

    parts = verbs.status(data_dir)
    if as_json:
        _print_json(parts)
    elif not parts:
        click.echo("Spinor was never up here; start it with `spinor up`.", err=True)
    else:
        rows: list[tuple[str, ...]] = [("PART", "HEALTH", "VERSION", "PID", "UPTIME", "LOG", "DETAIL")]
        for part in parts:
            restarts = f", {part.restarts} restarts" if part.restarts else ""
            process = (str(part.pid or "-"), _duration(part.uptime_s))
            rows.append(
                (part.name, part.health, part.version or "-", *process, part.log or "-", part.detail + restarts)
            )
        _print_table(rows)
    if all(part.pid is None for part in parts):
        sys.exit(NOT_UP)
    if any(part.health != verbs.Health.HEALTHY for part in parts):
        sys.exit(NOT_HEALTHY)


@click.group(invoke_without_command=True)
@_data
@_json
@click.pass_context
def doctor(context: click.Context, data_dir: Path | None, as_json: bool) -> None:
    """Say what is wrong with this machine's set-up, and the remedy. Exits 1 when something is."""
    if context.invoked_subcommand is not None:
        return
    from spinor.embedded.doctor import examine

    findings = examine(data_dir)
    if as_json:
        _print_json(findings)
    else:
        for finding in findings:
            mark = "ok   " if finding.ok else "WRONG"
            click.echo(f"{mark}  {finding.check:<11}  {finding.sentence} {finding.remedy}".rstrip())
    if not all(finding.ok for finding in findings):
        sys.exit(NOT_HEALTHY)


doctor.add_command(cert)


def _print_json(models: Sequence[object]) -> None:
    import msgspec

    for model in models:
        click.echo(msgspec.json.encode(model).decode())


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours // 24}d{hours % 24:02}h"
        if hours >= 24
        else f"{hours}h{minutes:02}m"
        if hours
        else f"{minutes}m{rest:02}s"
    )
