"""How DIRAC's commands read their command line: long options like --JobGroup=x, anywhere, and short ones."""

import getopt
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# Taken by all of them for DIRAC's sake; they change nothing here.
_GENERAL = (
    ("o", "option", True),
    ("s", "section", True),
    ("c", "cert", True),
    ("d", "debug", False),
    ("", "cfg", True),
    ("", "autoreload", False),
    ("", "license", False),
)


class Switch(NamedTuple):
    """`name` ends with = when it takes a value, as in DIRAC."""

    short: str
    name: str
    help: str

    @property
    def takes_value(self) -> bool:
        return self.name.endswith("=")


class Usage(Exception):
    """The command line is not understood."""


@dataclass(frozen=True)
class Given:
    """What was typed: values of switches by their long name without =, and the other words."""

    words: list[str]
    switches: dict[str, list[str]] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        return name in self.switches

    def value(self, name: str) -> str | None:
        """The last one counts."""
        return self.switches[name][-1] if name in self.switches else None

    def values(self, name: str) -> list[str]:
        return self.switches.get(name, [])


@dataclass(frozen=True)
class Program:
    """One command. `run` gives the exit code."""

    summary: str
    run: Callable[[Given], int]
    arguments: str = ""
    switches: Sequence[Switch] = ()
    least: int = 0  # Words that must be there.
    example: str = ""


def main(name: str, program: Program, words: Sequence[str]) -> int:
    """Run a command; whatever goes wrong is one sentence and an exit code."""
    try:
        given = parsed(program, words)
        if given is None:
            sys.stdout.write(help_of(name, program))
            return 0
        if len(given.words) < program.least:
            sys.stderr.write(help_of(name, program))
            return 1
        return program.run(given)
    except Usage as error:
        sys.stderr.write(f"{name}: {error}; see {name} --help\n")
        return 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (whatever it is, it is told in one sentence)
        from spinor.cli import report

        return report(error, name)


def parsed(program: Program, words: Sequence[str]) -> Given | None:
    """The command line by its switches; None when help is wanted."""
    known = {switch.name.rstrip("="): switch for switch in program.switches}
    shorts = {switch.short: name for name, switch in known.items() if switch.short}
    general = [(short, name, takes) for short, name, takes in _GENERAL if name not in known]
    letters = "h" + "".join(f"{s.short}{':' * s.takes_value}" for s in program.switches if s.short)
    letters += "".join(f"{short}{':' * takes}" for short, _, takes in general if short and short not in shorts)
    names = ["help", *(s.name for s in program.switches), *(f"{name}{'=' * takes}" for _, name, takes in general)]
    try:
        found, rest = getopt.gnu_getopt(list(words), letters, names)
    except getopt.GetoptError as error:
        raise Usage(error.msg) from None
    switches: dict[str, list[str]] = {}
    for option, value in found:
        bare = option.lstrip("-")
        if bare in ("h", "help") and "h" not in shorts:
            return None
        name = bare if option.startswith("--") else shorts.get(bare, "")
        if name in known:
            switches.setdefault(name, []).append(value)
    return Given(rest, switches)


def help_of(name: str, program: Program) -> str:
    lines = [program.summary, "", "Usage:", f"  {name} [options] ... {program.arguments}".rstrip(), "", "Options:"]
    shown = [*program.switches, Switch("h", "help", "Shows this help")]
    for switch in shown:
        short = f"-{switch.short}  " if switch.short else "    "
        value = "<value>" if switch.takes_value else ""
        lines.append(f"  {short}--{switch.name + value:<28} : {switch.help}")
    if program.example:
        lines += ["", "Example:", *(f"  {line}" for line in program.example.splitlines())]
    return "\n".join(lines) + "\n"
