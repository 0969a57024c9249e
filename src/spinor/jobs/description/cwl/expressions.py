"""CWL's parameter references, `$(inputs.file.path)`; JavaScript is refused."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from spinor.jobs.description.cwl.loading import Source

_PART = r"(?:\.[A-Za-z_]\w*|\[\d{1,9}\]|\['(?:[^'\\]|\\.)*'\]|\[\"(?:[^\"\\]|\\.)*\"\])"
_REFERENCE = re.compile(rf"\$\(([A-Za-z_]\w*)({_PART}*)\)", re.ASCII)
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]|\[['\"](.*?)['\"]\]", re.ASCII)
_ANY = re.compile(r"\\\$(?=[({])|\$[({]")


class Scope:
    """What references may name: inputs, runtime, and `self` where the standard has it."""

    def __init__(self, source: Source, inputs: Mapping[str, Any], runtime: Mapping[str, Any]) -> None:
        self.source = source
        self._roots: dict[str, Any] = {"inputs": inputs, "runtime": runtime}

    def value(self, text: Any, itself: Any = None) -> Any:
        """A text that is one reference alone has the value's own type; anything but a text is its own value."""
        if not isinstance(text, str) or "$" not in text:
            return text
        whole = _REFERENCE.fullmatch(text.strip())
        if whole:
            return self._look(whole, itself)
        parts, position = [], 0
        for start in _ANY.finditer(text):
            if start.start() < position:
                continue
            if start.group() == "\\$":
                parts.append(text[position : start.start()])
                position = start.end() - 1
                continue
            match = _REFERENCE.match(text, start.start())
            if match is None:
                shown = text[start.start() : start.start() + 60].splitlines()[0]
                problem = f"{shown} is JavaScript; only parameter references such as $(inputs.name) are understood"
                raise self.source.refuse(shown, problem)
            parts += [text[position : start.start()], text_of_value(self._look(match, itself))]
            position = match.end()
        return "".join([*parts, text[position:]])

    def text(self, text: Any, itself: Any = None) -> str:
        return text_of_value(self.value(text, itself))

    def _look(self, match: re.Match[str], itself: Any) -> Any:
        name, rest = match.groups()
        if name != "self" and name not in self._roots:
            raise self.source.refuse(match.group(), f"{match.group()}: there is inputs, runtime and self, not {name}")
        value = itself if name == "self" else self._roots[name]
        for attribute, index, key in _STEP.findall(rest):
            value = self._step(match.group(), value, attribute or key, index)
        return value

    def _step(self, reference: str, value: Any, name: str, index: str) -> Any:
        if index and isinstance(value, list) and int(index) < len(value):
            return value[int(index)]
        if name and isinstance(value, Mapping) and name in value:
            return value[name]
        if name == "length" and isinstance(value, list):
            return len(value)
        raise self.source.refuse(reference, f"{reference} names nothing that is there: there is no {name or index}")


def text_of_value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and value.get("class") in ("File", "Directory"):
        return str(value["path"])
    return msgspec.json.encode(value).decode()
