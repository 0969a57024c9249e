"""Job descriptions out of files: YAML or JSON, one or several documents each."""

import difflib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from spinor.errors import BadInput, NotFound
from spinor.jobs.models import JobSpec

# A document, what to call it in an error, and the directory that its relative paths start from.
Document = tuple[Any, str, Path]


class BadDescriptionFile(BadInput):
    """The job description is refused."""

    code = "bad-job-description"


class NoSuchFile(NotFound):
    """There is no such file."""

    code = "no-such-file"


def documents(files: Sequence[str]) -> Iterator[Document]:
    """Every document of every file; `-` is stdin."""
    for name in files:
        text, folder = _text(name)
        found = _parsed(text, "stdin" if name == "-" else name)
        for n, document in enumerate(found):
            place = "stdin" if name == "-" else name
            yield document, f"{place}, document {n + 1}: " if len(found) > 1 else f"{place}: ", folder


def _text(name: str) -> tuple[str, Path]:
    if name == "-":
        return sys.stdin.read(), Path()
    path = Path(name)
    try:
        return path.read_text(encoding="utf-8"), path.parent
    except FileNotFoundError:
        raise NoSuchFile(f"There is no file {name!r}; a command line to run goes after `--`.") from None
    except UnicodeDecodeError as error:
        raise BadDescriptionFile(f"{name}: it is not UTF-8 text (byte {error.start}).") from None


def _parsed(text: str, name: str) -> list[Any]:
    import yaml

    try:
        # JSON of any size is read at once; what is no JSON may still be YAML.
        return [msgspec.json.decode(text)] if text.lstrip().startswith("{") else _yaml(text)
    except (msgspec.DecodeError, yaml.YAMLError):
        pass
    try:
        return _yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise BadDescriptionFile(f"{name}: it is not YAML or JSON: {where}{error.problem or error.context}.") from None
    except yaml.YAMLError as error:
        raise BadDescriptionFile(f"{name}: it is not YAML or JSON: {str(error).splitlines()[0]}.") from None


def _yaml(text: str) -> list[Any]:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Safe YAML in which a date stays the text that was written."""

    stamp = "tag:yaml.org,2002:timestamp"
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != stamp]
        for first, resolvers in Loader.yaml_implicit_resolvers.items()
    }
    return [document for document in yaml.load_all(text, Loader) if document is not None]


def read_descriptions(found: Iterable[Document], changes: dict[str, Any]) -> list[tuple[JobSpec, Path]]:
    """The descriptions, with the options of the command line put over them, and where their paths start."""
    described = [(_spec(document, place, changes), folder) for document, place, folder in found]
    if not described:
        raise BadDescriptionFile("There is no job description in it; at least `executable: …` is needed.")
    if changes.get("input_sandbox"):
        # Paths of the command line start where the person is.
        described = [(spec, Path()) for spec, _ in described]
    return described


def _spec(document: Any, place: str, changes: dict[str, Any]) -> JobSpec:
    if not isinstance(document, dict):
        kind = "a list" if isinstance(document, list) else "a single value"
        raise BadDescriptionFile(f"{place}it is {kind}, not a description; write fields, such as `executable: …`.")
    known = [field.name for field in msgspec.structs.fields(JobSpec)]
    for name in document:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"there is {', '.join(known)}."
            raise BadDescriptionFile(f"{place}there is no field `{name}`; {hint}", field=str(name))
    if "sites" in changes:
        document = {name: value for name, value in document.items() if name != "site"}
    try:
        return msgspec.convert({**document, **changes}, JobSpec)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$")
        field = re.sub(r"^\.", "", where.rstrip("`"))
        raise BadDescriptionFile(f"{place}{field}: {text}" if field else f"{place}{text}", field=field) from None
