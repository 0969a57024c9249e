"""The shell's language: the verbs of `spinor file`, under their own names, and those of the shell itself.

What is none of these may be a command of another language that is installed (entry points `spinor.shell`): DIRAC's.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import click

from spinor.catalog.cli.shell.arguments import Kind, defaults, options_of, take_apart, wanted_by
from spinor.catalog.cli.shell.builtin import BUILTINS
from spinor.catalog.cli.shell.prepared import words_of
from spinor.catalog.cli.shell.words import Word, word_of
from spinor.errors import BadInput
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.catalog.cli.shell.console import Console, Language

GROUP = "spinor.shell"
_NOT_HERE = {"shell"}  # One is in it.


class SpinorVerbs:
    """Each verb of `spinor file` behaves as on the command line, with paths relative to the current directory."""

    name = "spinor file shell"

    def verbs(self) -> list[str]:
        return _own_verbs()  # Others are understood, and not offered.

    def run(self, console: Console, words: Sequence[Word]) -> int:
        name = words[0].text
        if name in BUILTINS:
            if any(word.text in ("-h", "--help") for word in words[1:]):
                return _help_on_builtin(name)
            return BUILTINS[name][0](console, words)
        if name == "help":
            return self._help(console, words)
        if name in _others():
            return _others()[name].run(console, words)
        return run_verb(console, words)

    def _help(self, console: Console, words: Sequence[Word]) -> int:
        if len(words) == 1:
            return _show_verbs()
        if words[1].text in BUILTINS:
            return _help_on_builtin(words[1].text)
        if words[1].text in _others():
            return _others()[words[1].text].run(console, words)
        return run_verb(console, [*words[1:], word_of("--help")])

    def expected(self, words: Sequence[Word], word: Word) -> Kind | list[str]:
        name = words[0].text
        if name == "help" and len(words) == 1:
            return [f"{verb} " for verb in self.verbs()]
        if name == "help":
            subcommands = expected_by_verb(words[1:], word)
            return subcommands if isinstance(subcommands, list) else Kind.WORD
        if name in BUILTINS:
            return BUILTINS[name][1]
        if name in _others():
            return _others()[name].expected(words, word)
        return expected_by_verb(words, word)


def _own_verbs() -> list[str]:
    return [*BUILTINS, "help", *file_verbs()]


@cache
def _others() -> dict[str, Language]:
    """The commands of other languages that are no verbs of this one."""
    languages: list[Language] = [point.load()() for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)]
    known = set(_own_verbs())
    return {verb: language for language in reversed(languages) for verb in language.verbs() if verb not in known}


def file_verbs() -> list[str]:
    from spinor.catalog.cli import file

    return [name for name in file.list_commands(click.Context(file)) if name not in _NOT_HERE]


def run_verb(console: Console, words: Sequence[Word]) -> int:
    """Run a verb of `spinor file` on the paths as they are meant here."""
    from spinor.catalog.cli import file

    name = words[0].text
    if name not in file_verbs():
        close = difflib.get_close_matches(name, [*file_verbs(), *BUILTINS, *_others()], n=1)
        raise BadInput(
            f"There is no command {printable(name)}" + (f"; did you mean {close[0]}?" if close else "; see `help`.")
        )
    given = take_apart(file, words)
    if not any(option.text in ("--help", "-h") for _, option in given.options):
        for kind, text in defaults(wanted_by(file, given), len(given.arguments)):
            given.arguments.append((kind, word_of(text)))
    if console.reads_script and any(word.text == "-" for _, word in given.arguments):
        raise BadInput("`-` reads standard input, which is where these commands come from; run it with -f or -c.")
    found = words_of(given, console.here)
    code = file.main(
        found, prog_name="spinor file", standalone_mode=False, help_option_names=["-h", "--help"], max_content_width=100
    )
    return code if isinstance(code, int) else 0


def expected_by_verb(words: Sequence[Word], word: Word) -> Kind | list[str]:
    """What a verb of `spinor file` could be given next."""
    from spinor.catalog.cli import file

    if words[0].text not in file_verbs():
        return Kind.WORD
    given = take_apart(file, words)
    if word.typed.startswith("-") or given.expected is None:
        return options_of(file, words)
    return given.expected


def _show_verbs() -> int:
    from spinor.catalog.cli import file

    formatter = click.HelpFormatter(max_width=100)
    with formatter.section("Commands of the shell"):
        formatter.write_dl(_lines_of_builtins())
    click.echo(formatter.getvalue(), nl=False)
    formatter = click.HelpFormatter(max_width=100)
    file.format_commands(click.Context(file), formatter)
    if _others():
        click.echo(formatter.getvalue() + "Understood as well: " + ", ".join(_others()))
    else:
        click.echo(formatter.getvalue(), nl=False)
    click.echo("\n`help COMMAND` tells more. Paths may be relative, and have *, ? and [...].")
    return 0


def _lines_of_builtins() -> list[tuple[str, str]]:
    return [(name, _sentence(name)[1]) for name in BUILTINS if name != "quit"]


def _sentence(name: str) -> tuple[str, str]:
    usage, _, sentence = (BUILTINS[name][0].__doc__ or "").partition(": ")
    return usage, sentence[:1].upper() + sentence[1:]


def _help_on_builtin(name: str) -> int:
    usage, sentence = _sentence(name)
    click.echo(f"Usage: {usage}\n\n  {sentence}")
    return 0
