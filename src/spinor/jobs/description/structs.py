"""Plain values -> JobSpec, with an error for each way in which they are none."""

import difflib
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from spinor.jobs.description.faults import BadDescription
from spinor.jobs.description.normal import normalised
from spinor.jobs.models import JobSpec

FIELDS = {field.name: field for field in msgspec.structs.fields(JobSpec)}


def spec_of(document: Any, changes: Mapping[str, Any]) -> JobSpec:
    """A document's fields with others put over them, checked as the service would. Raises BadDescription."""
    if not isinstance(document, dict):
        kind = "a list" if isinstance(document, list) else "a single value"
        raise BadDescription(f"it is {kind}, not a description; write fields, such as `executable: …`.", field="")
    for name in document:
        if name not in FIELDS:
            raise BadDescription(_no_field(str(name), FIELDS), field=str(name))
    if "sites" in changes:
        document = {name: value for name, value in document.items() if name != "site"}
    try:
        spec = msgspec.convert({**document, **changes}, JobSpec)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `")
        field = re.sub(r"^.*`?\$\.?", "", where.rstrip("`"))  # Of a key: "key` in `$.environment".
        problem = _misnamed(field, text) or text + _advice(text)
        raise BadDescription(f"{field}: {problem}" if field else problem, field=field) from None
    # Local paths are still in it; they are checked when they are packed.
    normalised(msgspec.structs.replace(spec, input_sandbox=[]))
    return spec


def _no_field(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:80], known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"there is {', '.join(known)}."
    return f"there is no field `{name[:80]}`; {hint}"


def _misnamed(field: str, text: str) -> str:
    """What to say when a part of a field, such as one of `output_data`, has a field that there is not."""
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", text, re.DOTALL)
    first = re.match(r"\w+", field)
    if unknown is None or first is None:
        return ""
    names = [each.name for part in _structs_in(FIELDS[first[0]].type) for each in msgspec.structs.fields(part)]
    return _no_field(unknown[1], names)


def _structs_in(kind: Any) -> list[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [found for part in typing.get_args(kind) for found in _structs_in(part)]


def _advice(text: str) -> str:
    if "Expected `str`" in text and re.search(r"got `(?:bool|int|float|null)`", text):
        return "; put it in quotes"
    if "Expected `bool`" in text:
        return "; write true or false"
    return ""


def set_field(document: dict[str, Any], path: str, text: str) -> None:
    """`retries.site`, `environment.X` or a field alone, set to what the text says. Raises BadDescription."""
    import yaml

    from spinor.jobs.description.documents import Loader

    first, *rest = path.split(".")
    if first not in FIELDS:
        spec_of({first: None}, {})  # It names the field that was meant.
    value: Any = text
    if rest or FIELDS[first].type is not str:
        try:
            value = yaml.load(text, Loader) if len(text) < 100_000 else text  # noqa: S506 - The loader is a safe one.
        except (yaml.YAMLError, ValueError, RecursionError):
            value = text
    place: Any = document
    for name in [first, *rest][:-1]:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise BadDescription(f"{path}: {name} has no parts of its own; set it as a whole", field=first)
    place[rest[-1] if rest else first] = value
