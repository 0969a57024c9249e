"""Parameters and what placeholders in a description stand for.

`{name}` is a placeholder and `{{name}}` the text {name}; `${NAME}` is a shell's, and stays.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec

from spinor.jobs.description.amounts import text_of
from spinor.jobs.models import JobSpec

BUILT_IN = ("index", "job_id", "array_id")
MAX_JOBS = 1_000_000  # Of one description.

PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}|(?<!\$)\{([A-Za-z_]\w*)\}", re.ASCII)
_LITERAL = re.compile(r"(?<!\$)\{(\w+)\}", re.ASCII)


def size_of(spec: JobSpec) -> int:
    """How many jobs the description makes."""
    return len(next(iter(spec.parameters.values()), (None,)))


def values_of(spec: JobSpec, index: int) -> dict[str, Any]:
    """The parameter values of one job."""
    return {name: values[index] for name, values in spec.parameters.items()}


def strings_of(spec: JobSpec) -> Iterator[tuple[str, str]]:
    """Every text in which placeholders count, with the name of its field."""
    yield "executable", spec.executable
    for n, argument in enumerate(spec.arguments):
        yield f"arguments[{n}]", cast(str, argument)
    for name, value in spec.environment.items():
        yield f"environment.{name}", cast(str, value)
    yield from ((f"input_data[{n}]", lfn) for n, lfn in enumerate(spec.input_data))
    yield from ((f"output_sandbox[{n}]", pattern) for n, pattern in enumerate(spec.output_sandbox))
    yield "stdout", spec.stdout
    yield "stderr", spec.stderr
    for n, output in enumerate(spec.output_data):
        field = f"output_data[{n}]"
        yield f"{field}.path", output.path
        yield f"{field}.lfn", output.lfn
        yield f"{field}.se", output.se
        yield from ((f"{field}.ses[{m}]", se) for m, se in enumerate(output.ses))
        yield from ((f"{field}.failover[{m}]", se) for m, se in enumerate(output.failover))
        for name, value in output.metadata.items():
            if isinstance(value, str):
                yield f"{field}.metadata.{name}", value


def joined(spec: JobSpec) -> str:
    """Every text of `strings_of` in one: what is not in it is in none of them, which is asked of every description."""
    outputs = [
        text
        for output in spec.output_data
        for text in (
            output.path,
            output.lfn,
            output.se,
            *output.ses,
            *output.failover,
            *(value for value in output.metadata.values() if isinstance(value, str)),
        )
    ]
    words = cast(list[str], [*spec.arguments, *spec.environment.values()])
    alone = (spec.executable, spec.stdout, spec.stderr)
    return "\n".join([*alone, *words, *spec.input_data, *spec.output_sandbox, *outputs])


def is_element(field: str) -> bool:
    """Whether a placeholder that is the whole text may stand for several."""
    return field.startswith(("arguments[", "input_data[", "output_sandbox["))


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
        stdout=fill(spec.stdout, values),
        stderr=fill(spec.stderr, values),
        output_data=[
            msgspec.structs.replace(
                output,
                path=fill(output.path, values),
                lfn=fill(output.lfn, values),
                se=fill(output.se, values),
                ses=[fill(se, values) for se in output.ses],
                failover=[fill(se, values) for se in output.failover],
                metadata={name: fill_value(value, values) for name, value in output.metadata.items()},
            )
            for output in spec.output_data
        ],
    )


def fill(text: str, values: Mapping[str, Any]) -> str:
    if "{" not in text:
        return text
    return PLACEHOLDER.sub(lambda match: _replacement(match, values), text)


def fill_value(value: Any, values: Mapping[str, Any]) -> Any:
    """A text that is one placeholder alone becomes the parameter's value, which may be a number."""
    if type(value) is not str or "{" not in value:
        return value
    match = PLACEHOLDER.fullmatch(value)
    if match and match.group(2) in values and values[match.group(2)] is not None:
        return values[match.group(2)]
    return fill(value, values)


def fill_list(texts: list[str], values: Mapping[str, Any]) -> list[str]:
    """A text that is one placeholder alone, whose value is a list, becomes that list's elements."""
    filled: list[str] = []
    for text in texts:
        if text.startswith("{"):
            match = PLACEHOLDER.fullmatch(text)
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


def escaped(text: str) -> str:
    """The text so written that none of its braces are a placeholder: `fill` gives it back."""
    return _LITERAL.sub(r"{{\1}}", text) if "{" in text else text


def placeholders_in(text: str) -> list[str]:
    """The names of parameters and built-ins in it, each as often as it stands there."""
    return [name for _, name in PLACEHOLDER.findall(text) if name]


def has_placeholder(texts: Iterable[str]) -> bool:
    return any("{" in text for text in texts)
