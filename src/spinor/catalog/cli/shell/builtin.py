"""The shell's own verbs: where one is, here and in the catalog, and how to leave."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spinor.catalog.cli.shell.arguments import Kind
from spinor.catalog.cli.shell.words import Word
from spinor.errors import BadInput

if TYPE_CHECKING:
    from spinor.catalog.cli.shell.console import Console

Run = Callable[["Console", Sequence[Word]], int]


def _options(words: Sequence[Word], allowed: str, most: int) -> tuple[set[str], list[str]]:
    """The options and the arguments of a verb of the shell. Raises click.UsageError."""
    options, rest = set(), []
    for word in words[1:]:
        if word.typed.startswith("--"):
            options.add(word.text)
        elif word.typed.startswith("-") and len(word.text) > 1:
            options |= {f"-{letter}" for letter in word.text[1:]}
        else:
            rest.append(word.text)
    if unknown := options - set(allowed.split()):
        raise click.UsageError(f"No such option: {min(unknown)}.")
    if len(rest) > most:
        raise click.UsageError(f"{words[0].text} takes at most {most} argument{'s' if most != 1 else ''}.")
    return options, rest


def cd(console: Console, words: Sequence[Word]) -> int:
    """cd [PATH | -]: change the directory; without PATH to the top, with - to the one before."""
    _, rest = _options(words, "", 1)
    console.change_directory(rest[0] if rest else console.names.top)
    return 0


def pwd(console: Console, words: Sequence[Word]) -> int:
    """pwd [--json]: print the directory."""
    _print(console.cwd, "path", _options(words, "--json", 0)[0])
    return 0


def lcd(_console: Console, words: Sequence[Word]) -> int:
    """lcd [DIRECTORY]: change the directory on this machine; without DIRECTORY to one's home."""
    _, rest = _options(words, "", 1)
    os.chdir(Path(rest[0] if rest else "~").expanduser())
    return 0


def lpwd(_console: Console, words: Sequence[Word]) -> int:
    """lpwd [--json]: print the directory on this machine."""
    _print(os.fspath(Path.cwd()), "local", _options(words, "--json", 0)[0])
    return 0


def _print(path: str, field: str, options: set[str]) -> None:
    import msgspec

    from spinor.terminal import printable

    click.echo(msgspec.json.encode({field: path}).decode() if "--json" in options else printable(path))


def lls(_console: Console, words: Sequence[Word]) -> int:
    """lls [-l] [--json] [DIRECTORY]: list a directory on this machine."""
    import msgspec

    from spinor.terminal import cell, printable, table

    options, rest = _options(words, "-l --json", 1)
    place = Path(rest[0] if rest else ".").expanduser()
    paths = sorted(place.iterdir()) if place.is_dir() else [place]
    rows = []
    for path in paths:
        facts = path.lstat()
        is_directory = modes.S_ISDIR(facts.st_mode)
        changed_at = datetime.fromtimestamp(facts.st_mtime, UTC)
        if "--json" in options:
            kind = "directory" if is_directory else "file"
            row = {"name": path.name, "kind": kind, "size_bytes": facts.st_size, "modified_at": changed_at}
            click.echo(msgspec.json.encode(row).decode())
        elif "-l" in options:
            size = cell(facts.st_size, "size_bytes")
            rows.append([modes.filemode(facts.st_mode), size, cell(changed_at), printable(path.name)])
        else:
            click.echo(printable(path.name) + ("/" if is_directory else ""))
    for line in table(["mode", "size", "modified", "name"], rows):
        click.echo(line)
    return 0


def source(console: Console, words: Sequence[Word]) -> int:
    """source FILE: run the commands in FILE."""
    _, rest = _options(words, "", 1)
    if not rest:
        raise click.UsageError("Say which FILE.")
    before, console.status = console.status, 0
    with open(Path(rest[0]).expanduser(), encoding="utf-8", errors="surrogateescape") as lines:
        console.run_script(lines, rest[0])
    failed, console.status = console.status, console.status or before
    return failed


def leave(_console: Console, words: Sequence[Word]) -> int:
    """exit [STATUS]: leave, as Ctrl-D does."""
    from spinor.catalog.cli.shell.console import Leave

    _, rest = _options(words, "", 1)
    if rest and not (rest[0].isdecimal() and int(rest[0]) < 256):
        raise BadInput(f"{rest[0]!r} is no exit status; it is a number from 0 to 255.")
    raise Leave(int(rest[0]) if rest else None)


# verb -> what it does, and what its arguments are.
BUILTINS: dict[str, tuple[Run, Kind]] = {
    "cd": (cd, Kind.LFN),
    "pwd": (pwd, Kind.WORD),
    "lcd": (lcd, Kind.LOCAL),
    "lpwd": (lpwd, Kind.WORD),
    "lls": (lls, Kind.LOCAL),
    "source": (source, Kind.LOCAL),
    "exit": (leave, Kind.WORD),
    "quit": (leave, Kind.WORD),
}
