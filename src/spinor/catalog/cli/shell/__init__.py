"""`spinor file shell`: the catalog's console."""

from typing import Any

import click


@click.command()
@click.option("-c", "commands", help="Run these commands, separated by ; or newlines, and leave.")
@click.option("-f", "--file", "script", type=click.File(encoding="utf-8", errors="surrogateescape"), help="Run FILE.")
@click.option("-k", "--keep-going", is_flag=True, help="Go on after a command that failed.")
@click.option("-d", "--directory", help="Begin there instead of at the top.")
def shell(commands: str | None, script: Any, keep_going: bool, directory: str | None) -> int:
    """Work in the catalog with a current directory, patterns and completion.

    Every verb of `spinor file` is there, and cd, pwd, lcd, lpwd, lls, source, help and exit; DIRAC's commands (meta,
    size, rmdir ...) are understood too. On a terminal it asks for commands; otherwise it runs those on standard input,
    and stops at the first that fails. The exit code is that of the last one that failed.

    \b
    spinor file shell -c 'cd run7; ls -l *.fits; find . "size > 1GB"'
    """
    from spinor.catalog.cli.shell.language import SpinorVerbs
    from spinor.catalog.cli.shell.session import Input, run_session

    return run_session(SpinorVerbs(), Input(commands, script, keep_going, directory), prompt="{cwd}> ")
