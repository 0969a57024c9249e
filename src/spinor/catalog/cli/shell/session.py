"""A session from its beginning to its end: where the commands come from, and with what status it ends."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from spinor.catalog.cli.shell.console import Console, Leave

if TYPE_CHECKING:
    from spinor.catalog.cli.shell.console import Language


@dataclass(frozen=True, slots=True)
class Input:
    """Where the commands come from: a text, a file, or else standard input."""

    commands: str | None = None
    script: Any = None
    keep_going: bool = False
    directory: str | None = None


def run_session(language: Language, given: Input, *, prompt: str, greeting: str = "") -> int:
    """The exit code: of a script that of the last command that failed, of a conversation 0."""
    if given.commands is not None and given.script is not None:
        raise click.UsageError("Give commands or a file with commands, not both.")
    from spinor.catalog.cli.shell.namespace import Namespace
    from spinor.client import one_connection

    with one_connection() as client:
        names = Namespace(client)
        console = Console(language, names, names.top, prompt, given.keep_going)
        if given.directory:
            console.change_directory(given.directory)
            console.previous = ""
        try:
            if given.commands is not None:
                console.run_script(given.commands.splitlines(), "-c")
            elif given.script is not None:
                console.run_script(given.script, getattr(given.script, "name", "script"))
            elif not sys.stdin.isatty():
                console.reads_script = True
                console.run_script(iter(sys.stdin.readline, ""), "stdin")
            else:
                _converse(console, greeting)
                return 0
        except Leave as leave:
            return console.status if leave.status is None else leave.status
        return console.status


def _converse(console: Console, greeting: str) -> None:
    from spinor.catalog.cli.shell.editing import Editor
    from spinor.credentials import config_dir

    if greeting:
        click.echo(greeting)
    editor = Editor(config_dir() / f"{console.language.name.split()[-1]}-history", console.complete)
    read = editor.read if sys.stdout.isatty() else _read_aside
    try:
        console.converse(read)
    finally:
        editor.close()


def _read_aside(prompt: str) -> str:
    """A line from a terminal while the output goes elsewhere: what is asked must not get into it."""
    click.echo(prompt, nl=False, err=True)
    return input()
