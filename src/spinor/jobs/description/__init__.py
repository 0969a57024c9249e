"""Pure checks of a job description, and what its placeholders stand for.

Each fault names the field and the remedy. What needs the database (files, storage elements, sites, sandboxes) is
checked in `service/validation.py`.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec

from spinor import quantities
from spinor.errors import BadInput
from spinor.jobs.models import JobSpec, OutputData

BUILT_IN = ("index", "job_id", "array_id")
MAX_DESCRIPTION_BYTES = 1024 * 1024
MAX_NAME = 255
_MOST = 2**62

# `{name}` is a placeholder and `{{name}}` the text {name}; `${NAME}` is a shell's, and stays.
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}|(?<!\$)\{([A-Za-z_]\w*)\}", re.ASCII)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BadDescription(BadInput):
    """The job description is refused."""

    code = "bad-job-description"


def fault(field: str, problem: str, **facts: Any) -> BadDescription:
    return BadDescription(f"{field}: {problem}", field=field, **facts)


def size_bytes(value: int | str, field: str) -> int:
    """`2GB` is 2·10⁹ bytes, `2GiB` is 2³¹."""
    if isinstance(value, str):
        text = value
        try:
            value = quantities.size_bytes(text)
        except ValueError as error:
            raise fault(field, f"{shown(text)} is not {error}") from None
    return _within(value, field, 0)


def duration_s(value: int | str, field: str) -> int:
    """`90m`, `2h`, `1h30m`; a bare number is seconds."""
    if isinstance(value, str):
        text = value
        try:
            value = int(quantities.duration_s(text))
        except ValueError as error:
            raise fault(field, f"{shown(text)} is not {error}") from None
    if value > 10 * 365 * 86400:
        raise fault(field, "is longer than ten years")
    return _within(value, field, 1)


def _within(value: int, field: str, least: int) -> int:
    if not least <= value <= _MOST:
        raise fault(field, f"is {value}; it must be {least} or more" if value < least else f"{value} is too much")
    return value


def normalised(spec: JobSpec) -> JobSpec:
    """The description with plain numbers, text and one list of sites. Raises BadDescription for any fault in it."""
    sites = [*([spec.site] if spec.site else []), *spec.sites]
    plain = msgspec.structs.replace(
        spec,
        name=spec.name.strip() or _default_name(spec),
        arguments=[text_of(value) for value in spec.arguments],
        environment={name: text_of(value) for name, value in spec.environment.items()},
        memory_bytes=size_bytes(spec.memory_bytes, "memory_bytes"),
        disk_bytes=size_bytes(spec.disk_bytes, "disk_bytes"),
        wall_s=duration_s(spec.wall_s, "wall_s"),
        site="",
        sites=list(dict.fromkeys(sites)),
        tags=list(dict.fromkeys(spec.tags)),
    )
    _check_texts(plain)
    _check_parameters(plain)
    _check_placeholders(plain)
    return plain


def _default_name(spec: JobSpec) -> str:
    return spec.executable.rstrip("/").rpartition("/")[2][:MAX_NAME]


def _check_texts(spec: JobSpec) -> None:
    if not spec.executable.strip():
        raise fault("executable", "is empty; name a program on PATH, or a file of the input sandbox such as ./run.sh")
    if len(spec.name) > MAX_NAME:
        raise fault("name", f"has {len(spec.name):,} characters; {MAX_NAME} is the most")
    for field, text in (("executable", spec.executable), ("name", spec.name)):
        control = _CONTROL.search(text)
        if control:
            raise fault(field, f"has a control character (U+{ord(control.group()):04X}) in it; leave it out")
    if spec.input_sandbox:
        raise fault("input_sandbox", "holds paths of the sender's machine; upload them and send `input_sandboxes`")
    _check_names(spec)
    for field, pattern in _inside(spec):
        parts = pattern.split("/")
        if not pattern or pattern.startswith("/") or ".." in parts:
            raise fault(field, f"{shown(pattern)} leads out of the job's directory; name a file inside it")
    for field, text in strings_of(spec):
        if "\x00" in text:
            raise fault(field, "has a NUL character (U+0000) in it; leave it out")


def _check_names(spec: JobSpec) -> None:
    for name in spec.environment:
        if not _WORD.fullmatch(name):
            problem = "is not a name for a variable; use letters, digits and _, and no digit first"
            raise fault(f"environment.{shown(name)}", problem)
    for field, words in (("sites", spec.sites), ("tags", spec.tags)):
        for word in words:
            if not word or _CONTROL.search(word):
                raise fault(field, f"{shown(word)} is not a name")


def _inside(spec: JobSpec) -> Iterator[tuple[str, str]]:
    yield from ((f"output_sandbox[{n}]", pattern) for n, pattern in enumerate(spec.output_sandbox))
    yield from ((f"output_data[{n}].path", output.path) for n, output in enumerate(spec.output_data))


def _check_parameters(spec: JobSpec) -> None:
    first = ""
    for name, values in spec.parameters.items():
        field = f"parameters.{shown(name)}"
        if not _WORD.fullmatch(name):
            raise fault(field, "is not a name for a parameter; use letters, digits and _, and no digit first")
        if name in BUILT_IN:
            raise fault(field, f"has the name of a built-in; choose another than {', '.join(BUILT_IN)}")
        if not values:
            raise fault(field, "is an empty list, which would make no job at all; give one value per job")
        first = first or name
        if len(values) != len(spec.parameters[first]):
            raise fault(
                field,
                f"has {len(values):,} values where parameters.{first} has {len(spec.parameters[first]):,}; "
                "all lists must be of one length, one value per job",
            )
        for n, value in enumerate(values):
            if not _is_scalar(value) and not (isinstance(value, list) and all(map(_is_scalar, value))):
                raise fault(f"{field}[{n}]", "is neither text, a number, true, false nor a list of these")
            if any("\x00" in item for item in (value if isinstance(value, list) else (value,)) if type(item) is str):
                raise fault(f"{field}[{n}]", "has a NUL character (U+0000) in it; leave it out")


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _check_placeholders(spec: JobSpec) -> None:
    known = {*spec.parameters, *BUILT_IN}
    lists: set[str] | None = None
    for field, text in strings_of(spec):
        if "{" not in text:
            continue
        for match in _PLACEHOLDER.finditer(text):
            name = match.group(2)
            if name is None:
                continue
            if name not in known:
                raise fault(field, f"there is no parameter {{{name}}}{_near(name, known)}", placeholder=name)
            if lists is None:
                lists = {each for each, values in spec.parameters.items() if any(type(v) is list for v in values)}
            if name in lists and not (text == match.group() and _is_element(field)):
                raise fault(
                    field, f"parameter {name} has lists as values; these can only be a whole element: {{{name}}}"
                )


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    hint = f"; did you mean {{{near[0]}}}?" if near else f"; there is {', '.join(sorted(known))}."
    return f"{hint} The text itself is written {{{{{name}}}}}"


def _is_element(field: str) -> bool:
    return field.startswith(("arguments[", "input_data[", "output_sandbox["))


def strings_of(spec: JobSpec) -> Iterator[tuple[str, str]]:
    """Every text in which placeholders count, with the name of its field."""
    yield "executable", spec.executable
    for n, argument in enumerate(spec.arguments):
        yield f"arguments[{n}]", cast(str, argument)
    for name, value in spec.environment.items():
        yield f"environment.{name}", cast(str, value)
    yield from ((f"input_data[{n}]", lfn) for n, lfn in enumerate(spec.input_data))
    yield from ((f"output_sandbox[{n}]", pattern) for n, pattern in enumerate(spec.output_sandbox))
    for n, output in enumerate(spec.output_data):
        yield f"output_data[{n}].path", output.path
        yield f"output_data[{n}].lfn", output.lfn
        yield f"output_data[{n}].se", output.se


def size_of(spec: JobSpec) -> int:
    """How many jobs the description makes."""
    return len(next(iter(spec.parameters.values()), (None,)))


def values_of(spec: JobSpec, index: int) -> dict[str, Any]:
    """The parameter values of one job."""
    return {name: values[index] for name, values in spec.parameters.items()}


def expanded(spec: JobSpec, values: Mapping[str, Any]) -> JobSpec:
    """The description of one job: every placeholder that `values` knows replaced, and no parameters left."""
    return msgspec.structs.replace(
        spec,
        parameters={},
        executable=fill(spec.executable, values),
        arguments=fill_list(cast(list[str], spec.arguments), values),
        environment={name: fill(cast(str, value), values) for name, value in spec.environment.items()},
        input_data=fill_list(spec.input_data, values),
        output_sandbox=fill_list(spec.output_sandbox, values),
        output_data=[
            OutputData(path=fill(o.path, values), lfn=fill(o.lfn, values), se=fill(o.se, values))
            for o in spec.output_data
        ],
    )


def fill(text: str, values: Mapping[str, Any]) -> str:
    if "{" not in text:
        return text
    return _PLACEHOLDER.sub(lambda match: _replacement(match, values), text)


def fill_list(texts: list[str], values: Mapping[str, Any]) -> list[str]:
    """A text that is one placeholder alone, whose value is a list, becomes that list's elements."""
    filled: list[str] = []
    for text in texts:
        if text.startswith("{"):
            match = _PLACEHOLDER.fullmatch(text)
            value = values.get(match.group(2)) if match and match.group(2) else None
            if isinstance(value, list):
                filled.extend(text_of(item) for item in value)
                continue
        filled.append(fill(text, values))
    return filled


def _replacement(match: re.Match[str], values: Mapping[str, Any]) -> str:
    literal, name = match.groups()
    if literal is not None:
        return f"{{{literal}}}"
    return text_of(values[name]) if name in values else match.group()


def text_of(value: Any) -> str:
    """A value as it appears on a command line: true and false as in JSON, nothing for null."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    return msgspec.json.encode(value).decode()


def has_placeholder(texts: Iterable[str]) -> bool:
    return any("{" in text for text in texts)


def shown(text: str) -> str:
    """A text of any length and content, fit for a sentence."""
    return repr(text if len(text) <= 80 else text[:77] + "…")
