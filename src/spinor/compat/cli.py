"""The commands that are installed under DIRAC's names."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click


def _main(command: click.Command) -> NoReturn:
    from spinor.cli import report

    try:
        code = command.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (whatever it is, it is told in one sentence)
        sys.exit(report(error, command.name or "spinor"))


@click.command("dirac-dms-filecatalog-cli", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-f", "--file-catalog", "catalog", help="Taken for DIRAC's sake: there is one catalog.")
@click.option("-c", "commands", help="Run these commands, separated by ; or newlines, and leave.")
@click.option("--script", type=click.File(encoding="utf-8", errors="surrogateescape"), help="Run the commands in FILE.")
@click.option("-k", "--keep-going", is_flag=True, help="Go on after a command that failed.")
def console(catalog: str | None, commands: str | None, script: Any, keep_going: bool) -> int:
    """DIRAC's file catalog console on Spinor's catalog: the same commands, which `help` lists.

    On a terminal it asks for commands; otherwise it runs those on standard input, and stops at the first that fails.
    """
    from spinor.catalog.cli.shell.session import Input, run_session
    from spinor.compat.language import DiracVerbs

    if catalog:
        click.echo(f"There is one catalog here; -f {catalog} changes nothing.", err=True)
    greeting = "Spinor's catalog, with DIRAC's commands; `help` lists them, `spinor file shell` has Spinor's own."
    given = Input(commands, script, keep_going)
    return run_session(DiracVerbs(), given, prompt="FC:{cwd}> ", greeting=greeting)


@click.command("dirac-dms-register-directory", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("lfn_directory", metavar="LFN_DIRECTORY")
@click.argument("tree", metavar="LOCAL_DIRECTORY")
@click.argument("se", metavar="SE")
@click.option("--checksum", type=click.Choice(["adler32", "sha256", "none"]), help="Read each file too.")
@click.option("-j", "--jobs", help="Scanning threads.")
@click.option("--exclude", multiple=True, help="Pass over names like this (*.tmp); may be given many times.")
@click.option("--report", help="Write what was refused, differs or is missing here.")
@click.option("--json", "as_json", is_flag=True, help="Print the same and the sums as JSON.")
def register_directory(
    lfn_directory: str, tree: str, se: str, exclude: tuple[str, ...], as_json: bool, **options: str | None
) -> int:
    """Register the files below LOCAL_DIRECTORY, which lies on SE, as LFN_DIRECTORY/...; nothing is copied or moved.

    The arguments are in the order of dirac-dms-add-file. It is `spinor file register-directory`, which see.
    """
    from spinor.catalog.cli.tree import register_directory as registers

    words = [tree, lfn_directory, "--se", se]
    words += [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    words += [word for name in exclude for word in ("--exclude", name)]
    code = registers.main([*words, *(["--json"] if as_json else [])], standalone_mode=False)
    return code if isinstance(code, int) else 0


@click.command("dirac-notebook-proxy-init", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--voms", multiple=True, metavar="VO:/VO/Role=…", help="With attributes of this VO, and this role.")
@click.option("--hours", default="12", show_default=True, help="How long it is good for.")
def notebook_proxy_init(voms: tuple[str, ...], hours: str) -> int:
    """Exchange the notebook's token for a limited proxy in $X509_USER_PROXY or /tmp/x509up_u<uid>.

    It is `spinor notebook proxy-init`, which see.
    """
    from spinor.notebook.cli import proxy_init

    words = [word for role in voms for word in ("--voms", role)]
    code = proxy_init.main([*words, "--hours", hours], standalone_mode=False)
    return code if isinstance(code, int) else 0


def run_console() -> NoReturn:
    _main(console)


def run_register_directory() -> NoReturn:
    _main(register_directory)


def run_notebook_proxy_init() -> NoReturn:
    _main(notebook_proxy_init)
