"""`spinor job`: run, submit, watch and control jobs."""

import importlib

import click

# verb -> the module of this package that has it, and the name there.
_VERBS: dict[str, tuple[str, str]] = {
    "run": ("run", "run"),
    "submit": ("submission", "submit"),
    "schema": ("checking", "schema"),
    "list": ("looking", "list_jobs"),
    "show": ("looking", "show"),
    "history": ("looking", "history"),
    "attempts": ("usage", "attempts"),
    "usage": ("usage", "usage"),
    "summary": ("looking", "summary"),
    "stats": ("statistics", "stats"),
    "top": ("top", "top"),
    "queues": ("queues", "queues"),
    "explain": ("looking", "explain"),
    "log": ("output", "log"),
    "peek": ("peek", "peek"),
    "output": ("output", "output"),
    "wait": ("waiting", "wait"),
    "kill": ("control", "kill"),
    "delete": ("control", "delete"),
    "hold": ("control", "hold"),
    "release": ("control", "release"),
    "reschedule": ("control", "reschedule"),
    "priority": ("control", "priority"),
}


class _Verbs(click.Group):
    """Import a verb's module when the verb is used, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module, name = _VERBS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"spinor.jobs.cli.{module}"), name)
        return command


@click.group(cls=_Verbs)
def job() -> None:
    """Run, submit, watch and control jobs.

    A first one: spinor job run -- ./script.sh a b c

    Jobs are named by their ids (17, 10-19, array:7, - for ids on stdin), by sets (--group), or by a query (--where).
    """
