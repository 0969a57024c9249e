"""Parametric JDL: sequences of values, and %s, %(name)s, %n as placeholders of a Spinor description."""

import re
from collections.abc import Iterator
from typing import Any

from spinor.jobs.description.faults import nearest
from spinor.jobs.description.jdl.syntax import Attribute, BadJDL, Place, refusal
from spinor.jobs.description.placeholders import BUILT_IN, MAX_JOBS, escaped

UNNAMED = "parameter"  # What `%s` stands for, and `number` is `%n`.
NUMBER = "number"
_KEYS = ("parameters", "parameterstart", "parameterstep", "parameterfactor")
_STAND = re.compile(r"%(?:(s)|(n)|\(([^()%]*)\)s)")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def is_parametric(name: str) -> bool:
    return name.lower().partition(".")[0] in _KEYS


class Parameters:
    """The sequences of one JDL. Without any, % means nothing in its texts."""

    def __init__(self, attributes: list[Attribute]) -> None:
        self._given: dict[str, dict[str, Attribute]] = {}
        self._values: dict[str, list[Any]] = {}  # By the name in Spinor.
        self._names: dict[str, str] = {}  # Of a sequence in JDL ("" is the unnamed one) -> its name in Spinor.
        self._used: dict[str, list[Any]] = {}
        for attribute in attributes:
            key, _, name = attribute.name.partition(".")
            self._given.setdefault(name, {})[key.lower()] = attribute
        self.size = self._size(attributes) if attributes else 0
        for name, given in self._given.items():
            self._add(name, given)

    def _size(self, attributes: list[Attribute]) -> int:
        size, first = 0, None
        for attribute in attributes:
            if attribute.name.lower().partition(".")[0] != _KEYS[0]:
                continue
            value = attribute.value
            if "." in attribute.name and not isinstance(value, list):
                raise _refuse(attribute, "must be a list; only `Parameters` itself may be a number")
            if not isinstance(value, list | int) or isinstance(value, bool):
                raise _refuse(attribute, "must be a number of jobs, or a list of values")
            length = len(value) if isinstance(value, list) else value
            if not 1 <= length <= MAX_JOBS:
                raise _refuse(attribute, f"makes {length:,} jobs; 1 to {MAX_JOBS:,} are allowed")
            if first is not None and length != size:
                problem = f"makes {length:,} jobs where {first.name} makes {size:,}; all must be of one length"
                raise _refuse(attribute, problem)
            size, first = length, attribute
        if first is None:
            raise _refuse(attributes[0], "needs `Parameters`, the number of jobs, beside it")
        return size

    def _add(self, name: str, given: dict[str, Attribute]) -> None:
        some = next(iter(given.values()))
        if name and not _WORD.fullmatch(name):
            raise _refuse(some, f"names a sequence {name!r}; use letters, digits and _, and no digit first")
        spinor = name or UNNAMED
        while spinor in BUILT_IN or spinor == NUMBER or spinor in self._values:
            spinor += "_"
        self._names[name] = spinor
        listed = given.get("parameters")
        if listed is not None and isinstance(listed.value, list):
            self._values[spinor] = listed.value
        else:
            start, step, factor = (
                _number(given.get(key), default) for key, default in zip(_KEYS[1:], (1, 0, 1), strict=True)
            )
            self._values[spinor] = list(_sequence(start, step, factor, self.size, some))

    def converted(self, text: str, place: Place, attribute: str) -> str:
        """The text with Spinor's placeholders in place of JDL's."""
        if not self.size:
            return escaped(text)
        parts, position = [], 0
        for match in _STAND.finditer(text):
            name = self._use(match, place, attribute)
            if name is None:
                continue
            before, after = text[position : match.start()], text[match.end() : match.end() + 1]
            if before.endswith("$") or (before.endswith("{") and after == "}"):
                problem = (
                    f"{attribute}: {match.group()} stands right after $ or in braces, which would mean something else"
                )
                raise refusal(place, f"{problem}; put a space or a quote between them", field=attribute)
            parts += [escaped(before), f"{{{name}}}"]
            position = match.end()
        return "".join([*parts, escaped(text[position:])])

    def stands_in(self, text: str) -> bool:
        return bool(self.size) and _STAND.search(text) is not None

    def _use(self, match: re.Match[str], place: Place, attribute: str) -> str | None:
        if match.group(2):
            width = len(str(self.size - 1))
            self._used.setdefault(NUMBER, [str(n).zfill(width) for n in range(self.size)])
            return NUMBER
        wanted = match.group(3) or ""
        if wanted not in self._names:
            if not wanted:
                return None  # As in DIRAC, %s is a text of its own where only named sequences are.
            near = nearest(wanted, [name for name in self._names if name])
            hint = f"; did you mean %({near})s?" if near else ""
            problem = f"{attribute}: {match.group()} is used, but there is no Parameters.{wanted}{hint}"
            raise refusal(place, problem, field=attribute)
        name = self._names[wanted]
        self._used[name] = self._values[name]
        return name

    def have_spaces(self) -> bool:
        return any(
            isinstance(value, str) and not value.isalnum() and len(value.split()) > 1
            for values in self._used.values()
            for value in values
        )

    def without_prefix(self, name: str) -> str:
        """The placeholder whose values are those of this one as LFNs: without `LFN:` before them."""
        values = self._used.get(name, [])
        if not any(_has_prefix(value) for value in values):
            return name
        plain = f"{name}_lfn"
        self._used[plain] = [
            [lfn_of(v) for v in value] if isinstance(value, list) else lfn_of(value) for value in values
        ]
        return plain

    def used(self) -> dict[str, list[Any]]:
        if self.size and not self._used:
            return {NUMBER: [str(n) for n in range(self.size)]}
        return self._used


def lfn_of(value: Any) -> Any:
    text = value.strip() if isinstance(value, str) else value
    return text[4:] if isinstance(text, str) and text[:4].lower() == "lfn:" else text


def _has_prefix(value: Any) -> bool:
    return any(lfn_of(each) != each for each in (value if isinstance(value, list) else [value]))


def _refuse(attribute: Attribute, problem: str) -> BadJDL:
    return refusal(attribute.place, f"{attribute.name} {problem}", field=attribute.name)


def _number(attribute: Attribute | None, default: int) -> int | float:
    if attribute is None:
        return default
    value = attribute.value
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().lstrip("+-").isdigit() else float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse(attribute, "must be a number")
    return value


def _sequence(
    start: int | float, step: int | float, factor: int | float, size: int, attribute: Attribute
) -> Iterator[int | float]:
    """Each is the one before times the factor plus the step; the first has the type of all."""
    value = start * type(factor)(1) + type(step)(0)
    for _ in range(size):
        if abs(value) > 1e300 or (isinstance(value, int) and abs(value) >= 2**63):
            raise _refuse(attribute, "grows beyond every number; make the factor smaller")
        yield value
        value = value * factor + step
