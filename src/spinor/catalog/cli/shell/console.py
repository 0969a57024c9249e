"""The shell itself: reads lines, keeps the current directory, runs one command after another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import click

from spinor.catalog.cli.shell import completion
from spinor.catalog.cli.shell.arguments import Kind
from spinor.catalog.cli.shell.paths import resolve
from spinor.catalog.cli.shell.prepared import Here
from spinor.catalog.cli.shell.words import Word, split_line, word_of
from spinor.errors import NotFound, SpinorError
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.catalog.cli.shell.namespace import Namespace

_INTERRUPTED = 130


class Leave(Exception):
    """The person wants to leave."""

    def __init__(self, status: int | None = None) -> None:
        super().__init__()
        self.status = status


class Language(Protocol):
    """The verbs that a console understands."""

    name: str

    def verbs(self) -> list[str]: ...
    def run(self, console: Console, words: Sequence[Word]) -> int:
        """Run one command; gives its exit code, or raises what went wrong."""
        ...

    def expected(self, words: Sequence[Word], word: Word) -> Kind | list[str]:
        """What the word behind these could be: a kind, or a choice of words as they would be typed."""
        ...


@dataclass(slots=True)
class Console:
    """One session. `status` is the exit code of the last command that failed."""

    language: Language
    names: Namespace
    cwd: str
    prompt: str = "{cwd}> "
    keep_going: bool = False
    status: int = 0
    previous: str = ""
    reads_script: bool = False  # Whether standard input is where the commands come from.
    _sources: list[str] = field(default_factory=list)

    @property
    def here(self) -> Here:
        return Here(self.cwd, self.names.top, self.names.entries)

    def change_directory(self, text: str) -> None:
        """Raises NotFound."""
        target = (self.previous or self.cwd) if text == "-" else resolve(text, self.cwd, self.names.top).rstrip("/")
        target = target or self.names.top
        if target != self.names.top:  # Which is not made before the first file is.
            self.names.require_directory(target)
        self.previous, self.cwd = self.cwd, target

    def run_line(self, line: str, where: str = "spinor") -> int:
        """Run the commands of a line, up to the first that fails unless told to keep going."""
        from spinor.cli import report

        failed = 0
        try:
            commands = split_line(line)
        except SpinorError as error:
            return self._failed(report(error, where))
        for words in commands:
            code = self._run(words, where)
            if code:
                failed = self._failed(code)
                if code == _INTERRUPTED or not self.keep_going:
                    break
        return failed

    def _failed(self, code: int) -> int:
        self.status = code
        return code

    def _run(self, words: Sequence[Word], where: str) -> int:
        from spinor.cli import report

        try:
            return self.language.run(self, words)
        except (Leave, BrokenPipeError):
            raise
        except click.UsageError as error:
            text = " ".join(error.format_message().split())
            click.echo(f"{where}: {printable(text)} See `help {printable(words[0].text)}`.", err=True)
            return error.exit_code
        except click.ClickException as error:
            click.echo(f"{where}: {printable(error.format_message())}", err=True)
            return error.exit_code
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (whatever it is, it is told in one sentence)
            return report(error, where)

    def run_script(self, lines: Iterable[str], source: str) -> None:
        """Run lines; stop at the first command that fails unless told to keep going."""
        if source in self._sources:
            raise NotFound(f"{source} reads itself.")
        self._sources.append(source)
        try:
            for number, line in enumerate(lines, 1):
                code = self.run_line(line.rstrip("\r\n"), f"{source}:{number}")
                if code and (code == _INTERRUPTED or not self.keep_going):
                    return
        finally:
            self._sources.pop()

    def converse(self, read: Callable[[str], str]) -> None:
        """Read from a person until they leave; an interrupt ends the command or the line, never the session."""
        while True:
            try:
                self.run_line(read(self.prompt.format(cwd=printable(self.cwd))))
                sys.stdout.flush()
            except EOFError:
                click.echo()
                return
            except KeyboardInterrupt:
                click.echo()

    def complete(self, line: str, begin: int) -> list[str]:
        """Completions for the line editor; nothing when the server does not answer."""
        try:
            return completion.complete(line, begin, self._candidates)
        except (SpinorError, OSError, ValueError):
            return []

    def _candidates(self, words: Sequence[Word], word: Word) -> list[str]:
        if not words:
            return completion.verbs(word, sorted(self.language.verbs()))
        if word.typed.startswith("--") and "=" in word.typed:
            name, _, value = word.typed.partition("=")
            inner = Word(value, value, value, word.start)
            return [f"{name}={text}" for text in self._candidates([*words, word_of(name)], inner)]
        expected = self.language.expected(words, word)
        if isinstance(expected, list):
            return sorted(text for text in expected if text.startswith(word.text))
        place = completion.Place(self.cwd, self.names.top, self.names.first_entries, self._known)
        return completion.candidates(word, expected, place)

    def _known(self, kind: Kind) -> list[str]:
        match kind:
            case Kind.SE:
                return self.names.storage_elements()
            case Kind.KEY:
                return self.names.keys()
            case Kind.USER:
                return self.names.users()
            case Kind.GROUP:
                return self.names.groups()
        return []
