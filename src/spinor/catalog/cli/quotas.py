"""`spinor file quota`: how much users, directories and storage elements may hold."""

from typing import Any

import click

from spinor.terminal import output_options


def _subject(command: Any) -> Any:
    for option, text in (
        ("--se", "On this storage element."),
        ("--directory", "Of all that is below this directory."),
        ("--user", "Of the files that this user owns."),
    ):
        command = click.option(option, help=text)(command)
    return command


def _named(subject: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in subject.items() if value is not None}


@click.group()
def quota() -> None:
    """Quotas: limits on files and bytes. A file with two replicas counts twice."""


@quota.command()
@_subject
@output_options
def show(as_json: bool, quiet: bool, **subject: str | None) -> None:
    """Show quotas and what is used of them: those that concern you, or of what the options name."""
    from spinor.catalog.quotas.models import Quota
    from spinor.client import Client

    with Client.from_environment() as client:
        _print(client.post("/api/files/quotas/search", _named(subject), list[Quota]), as_json, quiet)


def _print(found: list[Any], as_json: bool, quiet: bool) -> None:
    from spinor import terminal

    if as_json:
        terminal.show(found, [], id_field="user", as_json=True)
        return
    if quiet:
        for row in found:
            click.echo(" ".join(terminal.printable(part) for part in (row.user, row.directory, row.se) if part))
        return
    rows = [
        [
            terminal.cell(row.user), terminal.cell(row.directory), terminal.cell(row.se), terminal.cell(row.files),
            terminal.cell(row.max_files), terminal.cell(row.size_bytes, "size_bytes"),
            terminal.cell(row.max_bytes, "max_bytes"),
        ]
        for row in found
    ]  # fmt: skip
    for line in terminal.table(["user", "directory", "se", "files", "max files", "size", "max size"], rows):
        click.echo(line)


@quota.command("set")
@_subject
@click.option("--max-files", type=click.IntRange(min=0), help="At most so many files.")
@click.option("--max-bytes", help="At most so many bytes: 10TB, 2GiB.")
@output_options
def set_quota(max_files: int | None, max_bytes: str | None, as_json: bool, quiet: bool, **subject: str | None) -> None:
    """Set a quota for a user, a directory, a storage element or a combination; one that is there is replaced."""
    import msgspec

    from spinor.catalog.quotas.models import Quota
    from spinor.client import Client
    from spinor.errors import BadInput
    from spinor.quantities import size_bytes

    setting: dict[str, Any] = _named({**subject, "max_files": max_files})
    try:
        if max_bytes is not None:
            setting["max_bytes"] = size_bytes(max_bytes)
    except ValueError as error:
        raise BadInput(f"--max-bytes {max_bytes!r} is not {error}.") from None
    with Client.from_environment() as client:
        found = client.put("/api/files/quotas", msgspec.json.encode([setting]), list[Quota])
    _print(found, as_json, quiet)


@quota.command()
@_subject
def rm(**subject: str | None) -> None:
    """Remove the quota of exactly this user, directory and storage element."""
    from spinor.client import Client

    with Client.from_environment() as client:
        client.post("/api/files/quotas/remove", [_named(subject)])
