"""Job descriptions out of files: YAML, JSON, JDL or CWL, one or several each, told apart by their content."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from spinor.errors import NotFound
from spinor.jobs.description import BadDescription
from spinor.jobs.description.documents import BadText, Text
from spinor.jobs.description.kinds import Kind, kind_of
from spinor.jobs.description.sets import check_set
from spinor.jobs.description.structs import set_field, spec_of
from spinor.jobs.models import JobSpec


@dataclass(frozen=True)
class Origin:
    """Where in which text a document stands."""

    text: Text
    document: int
    steps: str = ""  # Before its own fields, for one of a list.
    alone: bool = True

    def before(self, field: str) -> str:
        """What an error about a field begins with."""
        place = self.text.place_of_field(self.document, f"{self.steps}.{field}" if self.steps else field)
        where = f"line {place[0]}, column {place[1]}: " if place else ""
        name = self.text.name if self.alone else f"{self.text.name}, document {self.document + 1}{self.steps}"
        return f"{name}: {where}"


# A document, where it is from (or what an error begins with), and the directory that its relative paths start from.
Document = tuple[Any, Origin | str, Path]


@dataclass
class Reading:
    """How files are read, and what was noticed on the way."""

    home: Callable[[], str] = str  # Asked for JDL: where output files go that have no LFN.
    inputs: str | None = None  # The file with the inputs of a CWL tool.
    scratch: Path | None = None  # For files whose content a CWL tool gives.
    settings: Sequence[tuple[str, str]] = ()
    table: str | None = None
    warnings: list[str] = field(default_factory=list)


class NoSuchFile(NotFound):
    """There is no such file."""

    code = "no-such-file"


def documents(files: Sequence[str], reading: Reading | None = None) -> Iterator[Document]:
    """Every description of every file; `-` is stdin."""
    reading = reading or Reading()
    for path in files:
        text, folder = _text(path)
        name = "stdin" if path == "-" else path
        match kind_of(text, name):
            case Kind.JDL:
                yield from _jdl(text, name, folder, reading)
            case Kind.CWL:
                yield from _cwl(text, name, folder, reading)
            case Kind.SPINOR:
                yield from _own(text, name, folder)


def _own(text: str, name: str, folder: Path) -> Iterator[Document]:
    source = Text(text, name)
    found = source.documents()
    for n, document in enumerate(found):
        if not isinstance(document, list):
            yield document, Origin(source, n, alone=len(found) == 1), folder
            continue
        for k, each in enumerate(document):
            yield each, Origin(source, n, steps=f"[{k}]", alone=False), folder


def _jdl(text: str, name: str, folder: Path, reading: Reading) -> Iterator[Document]:
    from spinor.jobs.description.jdl import BadJDL, translate

    try:
        translation = translate(text, reading.home())
    except BadJDL as error:
        raise BadJDL(f"{name}: {error.message}", **error.facts) from None
    reading.warnings += [f"{name}: {warning}" for warning in translation.warnings]
    for spec in translation.specs:
        yield msgspec.to_builtins(spec), f"{name}: ", folder


def _cwl(text: str, name: str, folder: Path, reading: Reading) -> Iterator[Document]:
    from spinor.jobs.description.cwl import BadCWL, translate

    orders: list[Any] = [{}]
    order_folder = folder
    if reading.inputs is not None:
        order_text, order_folder = _text(reading.inputs)
        orders = Text(order_text, reading.inputs).documents() or [{}]
    for order in orders:
        if not isinstance(order, dict):
            raise BadText(f"{reading.inputs}: it is not an order, which gives each input of the tool its value.")
    try:
        translation = translate(text, orders, folder, order_folder, reading.scratch)
    except BadCWL as error:
        raise BadCWL(f"{name}: {error.message}", **error.facts) from None
    reading.warnings += [f"{name}: {warning}." for warning in translation.warnings]
    for spec in translation.specs:
        yield msgspec.to_builtins(spec), f"{name}: ", folder


def _text(name: str) -> tuple[str, Path]:
    if name == "-":
        return sys.stdin.read(), Path()
    path = Path(name)
    try:
        return path.read_text(encoding="utf-8"), path.parent
    except FileNotFoundError:
        raise NoSuchFile(f"There is no file {name!r}; a command line to run goes after `--`.") from None
    except IsADirectoryError:
        raise BadText(f"{name}: it is a directory, not a file.") from None
    except UnicodeDecodeError as error:
        raise BadText(f"{name}: it is not UTF-8 text (byte {error.start}).") from None


def read_descriptions(
    found: Iterable[Document], changes: dict[str, Any], reading: Reading | None = None
) -> list[tuple[JobSpec, Path]]:
    """The descriptions, with the options of the command line put over them, and where their paths start."""
    given = [(_changed(document, reading), origin, folder) for document, origin, folder in found]
    if not given:
        raise BadText("There is no job description in it; at least `executable: …` is needed.")
    if reading is not None and reading.table is not None:
        given = [_with_table(given, reading.table)]
    described = [(_spec(document, origin, changes), folder) for document, origin, folder in given]
    check_set([_named(spec) for spec, _ in described])
    if changes.get("input_sandbox"):
        # Paths of the command line start where the person is.
        described = [(spec, Path()) for spec, _ in described]
    return described


def _changed(document: Any, reading: Reading | None) -> Any:
    if reading is None or not reading.settings or not isinstance(document, dict):
        return document
    # Only what is changed is copied: a description may have a million parameters.
    document = {name: dict(value) if isinstance(value, dict) else value for name, value in document.items()}
    for path, text in reading.settings:
        set_field(document, path, text)
    return document


def _with_table(given: list[Document], table: str) -> Document:
    from spinor.jobs.description.table import read_table

    if len(given) > 1:
        raise BadText(f"--table goes with one description, and here are {len(given)}.")
    document, origin, folder = given[0]
    if not isinstance(document, dict):
        return given[0]
    try:
        columns = read_table(Path(table))
    except FileNotFoundError:
        raise NoSuchFile(f"There is no file {table!r}.") from None
    own = document.get("parameters")
    own = own if isinstance(own, dict) else {}
    both = sorted(own.keys() & columns.keys())
    if both:
        raise BadDescription(
            f"{table}: the description has a parameter {both[0]} already; rename one", field="parameters"
        )
    return {**document, "parameters": {**own, **columns}}, origin, folder


def _spec(document: Any, origin: Origin | str, changes: dict[str, Any]) -> JobSpec:
    try:
        return spec_of(document, changes)
    except BadDescription as error:
        before = origin if isinstance(origin, str) else origin.before(str(error.facts.get("field", "")))
        raise type(error)(f"{before}{error.message}", **error.facts) from None


def _named(spec: JobSpec) -> JobSpec:
    return msgspec.structs.replace(spec, name=spec.name.strip() or spec.executable.rstrip("/").rpartition("/")[2])
