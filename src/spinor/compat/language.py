"""The language of dirac-dms-filecatalog-cli; what is none of its commands is tried as a verb of `spinor file`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from spinor.catalog.cli.shell.arguments import Kind
from spinor.catalog.cli.shell.builtin import BUILTINS
from spinor.catalog.cli.shell.language import expected_by_verb, file_verbs, run_verb
from spinor.catalog.cli.shell.words import Word
from spinor.compat.commands import COMMANDS
from spinor.compat.explanations import EXPLANATIONS
from spinor.compat.translation import TRANSLATIONS
from spinor.errors import BadInput
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.catalog.cli.shell.console import Console

_SHARED = ("cd", "pwd", "exit", "quit", "lls", "lpwd")  # The same as in `spinor file shell`.
_SUBCOMMANDS = {
    "register": ["file ", "replica "],
    "unregister": ["dir ", "file ", "replica "],
    "meta": ["get ", "index ", "remove ", "set ", "show ", "tags "],
    "dataset": ["add ", "annotate ", "check ", "files ", "freeze ", "release ", "rm ", "show ", "status ", "update "],
    "user": ["show "],
    "group": ["show "],
}
# command -> what its arguments are, in order; the last one repeats.
_EXPECTED: dict[str, tuple[Kind, ...]] = {
    "register file": (Kind.NAME, Kind.WORD, Kind.WORD, Kind.SE, Kind.WORD),
    "register replica": (Kind.LFN, Kind.WORD, Kind.SE),
    "unregister replica": (Kind.LFN, Kind.SE),
    "meta set": (Kind.LFN, Kind.KEY),
    "meta get": (Kind.LFN,),
    "meta remove": (Kind.LFN, Kind.KEY),
    "meta tags": (Kind.LFN, Kind.KEY),
    "add": (Kind.NAME, Kind.LOCAL, Kind.SE, Kind.WORD),
    "get": (Kind.LFN, Kind.LOCAL),
    "replicate": (Kind.LFN, Kind.SE),
    "rmreplica": (Kind.LFN, Kind.SE),
    "chown": (Kind.USER, Kind.LFN),
    "chgrp": (Kind.GROUP, Kind.LFN),
    "chmod": (Kind.WORD, Kind.LFN),
    "find": (Kind.LFN, Kind.PAIR),
    "lcd": (Kind.LOCAL,),
    "lls": (Kind.LOCAL,),
    "execfile": (Kind.LOCAL,),
}


class DiracVerbs:
    """DIRAC's commands with DIRAC's arguments."""

    name = "dirac-dms-filecatalog-cli"

    def verbs(self) -> list[str]:
        return sorted({*EXPLANATIONS, *file_verbs(), "lls", "lpwd"})

    def run(self, console: Console, words: Sequence[Word]) -> int:
        name = words[0].text
        if name == "help":
            return _help(words[1:])
        if name in _SHARED:
            return BUILTINS[name][0](console, words)
        if name in COMMANDS:
            return COMMANDS[name](console, words)
        if name in TRANSLATIONS:
            return self._run_all(console, TRANSLATIONS[name](words[1:]))
        if name in file_verbs():
            return run_verb(console, words)
        close = difflib.get_close_matches(name, self.verbs(), n=1)
        raise BadInput(f"There is no command {printable(name)}" + (f"; did you mean {close[0]}?" if close else "."))

    def _run_all(self, console: Console, lines: Sequence[Sequence[Word]]) -> int:
        for line in lines:
            run = COMMANDS.get(line[0].text) if line[0].text not in file_verbs() else None
            if code := run(console, line) if run else run_verb(console, line):
                return code
        return 0

    def expected(self, words: Sequence[Word], word: Word) -> Kind | list[str]:
        name, given = words[0].text, [item for item in words[1:] if not item.text.startswith("-")]
        if name == "help":
            return [f"{verb} " for verb in EXPLANATIONS]
        if name in _SUBCOMMANDS:
            if not given:
                return _SUBCOMMANDS[name]
            name, given = f"{name} {given[0].text}", given[1:]
        if name in _EXPECTED:
            kinds = _EXPECTED[name]
            return kinds[min(len(given), len(kinds) - 1)]
        if name.split()[0] in EXPLANATIONS:
            return Kind.LFN
        return expected_by_verb(words, word)


def _help(words: Sequence[Word]) -> int:
    if not words:
        formatter = click.HelpFormatter(max_width=100)
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in EXPLANATIONS.items()])
        click.echo(formatter.getvalue() + "\nThe verbs of `spinor file` work here too: " + ", ".join(file_verbs()))
        return 0
    name = words[0].text
    if name not in EXPLANATIONS:
        raise BadInput(f"There is no command {printable(name)}; `help` lists them.")
    forms, sentence = EXPLANATIONS[name]
    click.echo("Usage: " + "\n       ".join(forms))
    click.echo(f"\n  {sentence}")
    return 0
