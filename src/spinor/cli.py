"""The root command. Its table is plain text, so that `spinor --help` imports no command's module."""

import importlib
import os
import sys
from typing import NoReturn

import click

from spinor import __version__

# noun or verb -> where its command is, and its line in the help.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("spinor.embedded.cli:up", "Start everything on this machine."),
    "down": ("spinor.embedded.cli:down", "Stop what `up` started."),
    "status": ("spinor.embedded.cli:status", "Show each part, its health and its log."),
    "doctor": ("spinor.embedded.cli:doctor", "Explain what is wrong with a set-up."),
    "login": ("spinor.identity.cli:login", "Sign in."),
    "logout": ("spinor.identity.cli:logout", "Sign out."),
    "whoami": ("spinor.identity.cli:whoami", "Show who you are and what you may do."),
    "notebook": ("spinor.notebook.cli:notebook", "Sign in and get proxies in a notebook's terminal."),
    "proxy": ("spinor.identity.delegation.cli:proxy", "Make, delegate and fetch grid proxies."),
    "token": ("spinor.identity.cli:token", "Print an access token for other tools."),
    "session": ("spinor.identity.people.cli:session", "See where you are signed in, and end it."),
    "identity": ("spinor.identity.federation.cli:identity", "List, link and unlink your logins."),
    "user": ("spinor.identity.people.cli:user", "Members of your VO: list, suspend, reinstate."),
    "registration": ("spinor.identity.federation.cli:registration", "Let people into your VO."),
    "audit": ("spinor.identity.people.cli:audit", "The record of issued credentials."),
    "file": ("spinor.catalog.cli:file", "Register, find, put and get files."),
    "job": ("spinor.jobs.cli:job", "Submit, watch and control jobs."),
    "pilot": ("spinor.pilots.cli:pilot", "Look at pilots and their logs."),
    "site": ("spinor.pilots.cli:site", "Sites: list, test, ban, drain and resume them."),
    "ce": ("spinor.pilots.cli:ce", "Computing elements: the same for them."),
    "se": ("spinor.resources.cli:se", "List storage elements."),
    "config": ("spinor.configuration.cli:config", "Validate, apply and roll back operations data."),
    "completion": ("spinor.cli:completion", "Print the shell's completion script."),
    "server": ("spinor.commands.server:server", "Run the HTTPS server (a service's process)."),
    "worker": ("spinor.commands.worker:worker", "Run the background worker (a service's process)."),
    "migrate": ("spinor.commands.migrate:migrate", "Bring the database to this version."),
    "keys": ("spinor.commands.keys:keys", "List, add and retire the service's own keys."),
    "bootstrap": ("spinor.commands.bootstrap:bootstrap", "Prepare a new service: database, keys, first configuration."),
}
_SECTIONS = {
    "This machine": ("up", "down", "status", "doctor"),
    "You": ("login", "logout", "whoami", "token", "proxy", "session", "identity", "notebook", "completion"),
    "Work": ("file", "job", "pilot", "site", "ce", "se"),
    "Community": ("user", "registration", "audit", "config"),
    "Service processes": ("server", "worker", "migrate", "keys", "bootstrap"),
}


class LazyCommands(click.Group):
    """Import a command's module when the command is used, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(
                f"There is no command {args[0]!r}" + (f"; did you mean {close[0]!r}?" if close else "; see --help.")
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in _SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, COMMANDS[name][1]) for name in names])


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="spinor")
def root() -> None:
    """Spinor: jobs and files of scientific communities, on all their machines and storages.

    `spinor up` starts a whole service here; `spinor job run -- echo hello` runs a first job on it.
    """


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL; for bash: eval "$(spinor completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(root, {}, "spinor", "_SPINOR_COMPLETE").source())


def main() -> NoReturn:
    """Run a command; whatever goes wrong becomes one sentence on stderr and an exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of one command line: 0 ok, 1 failed, 2 usage, 3 not found, 4 denied, 5 conflict, 75 try again."""
    try:
        code = root.main(arguments, prog_name="spinor", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (whatever it is, it is told in one sentence)
        return report(error)


def report(error: BaseException, who: str = "spinor") -> int:
    """Say what went wrong in one sentence; gives the exit code that says it too."""
    from spinor.errors import SpinorError

    if isinstance(error, click.Abort | KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    if isinstance(error, SpinorError):
        click.echo(f"{who}: {error.message}", err=True)
        if "caret" in error.facts:  # Where in a query the fault is.
            click.echo(f"  {error.facts['query']}\n  {error.facts['caret']}", err=True)
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        # The reader of our output has left (`| head`); say nothing more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"{who}: {where}{error.strerror or error}", err=True)
        return 3 if isinstance(error, FileNotFoundError) else 4 if isinstance(error, PermissionError) else 1
    if os.environ.get("SPINOR_TRACEBACK"):  # A fault of ours: a report without a traceback, unless asked for.
        raise error
    click.echo(f"{who}: an unexpected {type(error).__name__} ({error}); set SPINOR_TRACEBACK=1 to see where.", err=True)
    return 1
