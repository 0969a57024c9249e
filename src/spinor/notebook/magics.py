"""The magics: thin sugar over the objects. `%load_ext spinor` brings them in."""

import functools
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class

from spinor.api.files import FileSet
from spinor.api.grid import Grid, Me, connect
from spinor.api.job import Job
from spinor.api.sets import JobSet
from spinor.errors import BadInput, SpinorError
from spinor.jobs.cli.descriptions import read_descriptions
from spinor.jobs.cli.submission import WithCommand, changes, description_options, send
from spinor.jobs.models import JobIds
from spinor.terminal import printable, read_ids

if TYPE_CHECKING:
    from spinor.notebook.proxies import ProxyFile

_OPTION = re.compile(r"\s*--(fields|limit|sort|path)[ =](\S+)")
_EXECUTABLE = "python3"
_TERMINALS = re.compile(r"`spinor (notebook )?login`")
F = TypeVar("F", bound=Callable[..., Any])


class FileTrouble(SpinorError):
    """A file here cannot be read or written."""

    code = "file-trouble"


def told(magic: F) -> F:
    """A magic whose trouble with files here is one sentence, too."""

    @functools.wraps(magic)
    def run(*arguments: Any) -> Any:
        try:
            return magic(*arguments)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise FileTrouble(f"{where}{error.strerror or error}.") from None

    return run  # type: ignore[return-value]


class NothingToRun(BadInput):
    """The cell is empty; its lines are what the job runs."""

    code = "nothing-to-run"


@magics_class
class SpinorMagics(Magics):
    """One Grid for the notebook, which `%login` may change."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._grid: Grid | None = None
        self._is_signed_out = False

    @property
    def grid(self) -> Grid:
        if self._grid is None:
            self._grid = connect()
        return self._grid

    def close(self) -> None:
        """Give the connection back; the next magic opens another one."""
        if self._grid is not None:
            self._grid.client.close()

    @line_magic
    def login(self, line: str) -> Me:
        """%login [--vo VO] [--group GROUP] [--server URL]: sign in; without a question where a token is found."""
        options = _parsed(_login, line)
        url = options.pop("server")
        if url or self._grid is None or self._is_signed_out:
            self._grid, self._is_signed_out = connect(url), False
        return self._grid.login(**options)

    @line_magic
    def logout(self, line: str) -> None:
        """%logout: end this session, and forget its tokens here."""
        _nothing(line)
        ended, self._is_signed_out = self.grid.logout(), True
        print("Signed out." if ended else "Signed out here; `spinor logout` also ends the sign-in of the terminal.")  # noqa: T201

    @line_magic
    def jobs(self, line: str) -> JobSet:
        """%jobs [QUERY]: the jobs that a query names (status=failed submitted_at>-1d), the newest first."""
        return self.grid.jobs.where(line.strip())

    @line_magic
    def job(self, line: str) -> Job | JobSet:
        """%job ID...: one job, or several (10-19 is a range)."""
        found = self._jobs(line)
        _ = found.model if isinstance(found, Job) else found.refresh()  # One that is not there is said at once.
        return found

    @cell_magic("job")  # type: ignore[arg-type]  # Named otherwise than its method.
    @told
    def submit(self, line: str, cell: str) -> Job | JobSet:
        """%%job [OPTIONS] [-- ARGUMENT...]: run the cell as a grid job; options are those of `spinor job submit`.

        The cell is a Python script, or what its first line (#!/bin/bash) says. --as NAME keeps the job in a variable.
        """
        if not cell.strip():
            raise NothingToRun
        options = _parsed(_submit, line)
        name, arguments = options.pop("variable"), options.pop("arguments")
        program, file_name = _program(cell)
        wanted = changes(options)
        with tempfile.TemporaryDirectory(prefix="spinor-cell-") as folder:
            script = Path(folder, file_name)
            script.write_text(cell, encoding="utf-8")
            more = [str(Path(each).expanduser().absolute()) for each in wanted.pop("input_sandbox", [])]
            document = {
                "name": "notebook cell",
                "executable": program[0],
                "arguments": [*program[1:], file_name, *arguments],
                "input_sandbox": [str(script), *more],
            }
            described = read_descriptions([(document, "", Path())], wanted)
            sent = send(self.grid.client, described)
        for warning in sent.warnings:
            print(f"warning: {printable(warning)}")  # noqa: T201
        made = self.grid.jobs.sent(sent.arrays)
        if name and self.shell is not None:
            self.shell.user_ns[name] = made
        return made

    @line_magic
    def logs(self, line: str) -> None:
        """%logs [-f] [--stream stderr] ID: what a job has written; -f follows it to its end."""
        options = _parsed(_logs, line)
        job = self.grid.jobs[_one(options["ids"])]
        if options["follow"]:
            job.follow(options["stream"])
        else:
            print(job.log(options["stream"]), end="")  # noqa: T201

    @line_magic
    def kill(self, line: str) -> Job | JobSet:
        """%kill ID...: kill jobs."""
        return self._jobs(line).kill("from a notebook")

    @line_magic
    def find(self, line: str) -> FileSet:
        """%find [--fields A,B] [--sort F] [--limit N] [/PATH] [QUERY]: files by their fields and metadata."""
        options: dict[str, str] = {}
        while option := _OPTION.match(line):
            options[option[1]] = option[2]
            line = line[option.end() :]
        where = line.strip()
        path = options.get("path", "")
        if where.startswith("/"):
            path, _, where = where.partition(" ")
        known: dict[str, Any] = {name: options[name].split(",") for name in ("fields", "sort") if name in options}
        if "limit" in options:
            known["limit"] = _whole("--limit", options["limit"])
        return self.grid.files.find(where.strip(), path=path, **known)

    @line_magic
    @told
    def get(self, line: str) -> list[str]:
        """%get LFN [LOCAL]: copy a file here, and verify it by its checksum."""
        lfn, local = _words(line, "%get LFN [LOCAL]", least=1, most=2)
        return [str(path) for path in self.grid.files.get(lfn, local)]

    @line_magic
    @told
    def put(self, line: str) -> FileSet:
        """%put LOCAL LFN [SE]: copy a local file to a storage element, and register it."""
        local, lfn, se = _words(line, "%put LOCAL LFN [SE]", least=2, most=3)
        return self.grid.files.put(local, lfn, se)

    @line_magic
    @told
    def proxy(self, line: str) -> "ProxyFile":
        """%proxy [--voms VO:/VO/Role=...] [--hours 12] [--full] [--out FILE]: a proxy file for older grid tools."""
        options = _parsed(_proxy, line)
        from spinor.notebook.proxies import proxy_init

        return proxy_init(self.grid.client, **options)

    def _jobs(self, line: str) -> Job | JobSet:
        ids = read_ids(line.split())
        if not ids:
            raise BadInput("Name jobs by id, or by a range such as 10-19.")
        return self.grid.jobs[ids[0]] if len(ids) == 1 else JobSet(self.grid.client, JobIds(job_ids=ids))


@click.command(add_help_option=False)
@click.option("--vo", default="")
@click.option("--group", default="")
@click.option("--server", default="")
def _login(**_: Any) -> None: ...


@click.command(cls=WithCommand, add_help_option=False)
@description_options
@click.option("--as", "variable", default="")
def _submit(**_: Any) -> None: ...


@click.command(add_help_option=False)
@click.argument("ids", nargs=-1)
@click.option("-f", "--follow", is_flag=True)
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), default="stdout")
def _logs(**_: Any) -> None: ...


@click.command(add_help_option=False)
@click.option("--voms", multiple=True)
@click.option("--hours", type=click.FloatRange(min=0.02, max=12), default=12)
@click.option("--limited/--full", default=True)
@click.option("--out", default="")
def _proxy(**_: Any) -> None: ...


def _parsed(command: click.Command, line: str) -> dict[str, Any]:
    """The options of a magic's line; BadInput says in one sentence what is wrong with them."""
    try:
        words = shlex.split(line)
        context = command.make_context("", words)
    except ValueError as error:
        raise BadInput(f"The line is not understood: {str(error).lower()}.") from None
    except click.ClickException as error:
        raise BadInput(error.format_message()) from None
    options = dict(context.params)
    if isinstance(command, WithCommand):
        options["arguments"] = context.meta.get("spinor.payload", [])
    return options


def _program(cell: str) -> tuple[list[str], str]:
    """What runs the cell, and what its file is called."""
    first = cell.lstrip("\n").splitlines()[0]
    if not first.startswith("#!"):
        return [_EXECUTABLE], "cell.py"
    words = shlex.split(first[2:])
    if not words:
        raise BadInput("The cell's first line names no program after #!.")
    # `env` and its like take the program's name as their argument.
    return words, "cell.sh" if words[-1].endswith("sh") else "cell.txt"


def _words(line: str, form: str, *, least: int, most: int) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise BadInput(f"The line is not understood: {str(error).lower()}.") from None
    if not least <= len(words) <= most:
        raise BadInput(f"Write {form}.")
    return words + [""] * (most - len(words))


def _one(ids: tuple[str, ...]) -> int:
    found = read_ids(ids)
    if len(found) != 1:
        raise BadInput("Name one job by its id.")
    return found[0]


def _whole(option: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise BadInput(f"{option} is {text!r}; it must be a whole number from 1 up.")
    return int(text)


def _nothing(line: str) -> None:
    if line.strip():
        raise BadInput(f"{printable(line.strip())!r} is not understood; this takes no arguments.")


def load(shell: InteractiveShell) -> None:
    """Bring the magics in, and let Spinor's errors be one sentence instead of a traceback."""
    shell.register_magics(SpinorMagics(shell))
    # IPython asks the exception itself how it is to be shown.
    SpinorError._render_traceback_ = _sentence  # type: ignore[attr-defined]


def _sentence(error: SpinorError) -> list[str]:
    # Most sentences speak to people at terminals.
    lines = [printable(_TERMINALS.sub("`%login`", error.message))]
    if "caret" in error.facts:  # Where in a query the fault is.
        lines += [f"  {printable(str(error.facts['query']))}", f"  {error.facts['caret']}"]
    return [f"\x1b[31m{line}\x1b[0m" for line in lines]


def unload(shell: InteractiveShell) -> None:
    """Show tracebacks again, and close the connection."""
    magics = shell.magics_manager.registry.get(SpinorMagics.__name__)
    if isinstance(magics, SpinorMagics):
        magics.close()
    if hasattr(SpinorError, "_render_traceback_"):
        del SpinorError._render_traceback_
