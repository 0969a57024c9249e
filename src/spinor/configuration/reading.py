"""YAML as operations data are written: plain values, no duplicates, and the line of everything.

Tags, anchors and aliases are refused: the first make objects, the others grow a small text without bound.
"""

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import yaml

from spinor.configuration.models import Fault

Path: TypeAlias = tuple[str | int, ...]

LARGEST_DOCUMENT_BYTES = 4 * 1024 * 1024
_DEEPEST = 20
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")}
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # The same grammar; C where the wheel has it.


class Source:
    """A document that was read: its value, where each part stands, and what was wrong with it as YAML."""

    def __init__(self, text: str) -> None:
        self.value: Any = None
        self.faults: list[Fault] = []
        self._lines: dict[Path, int] = {(): 1}
        if len(text.encode(errors="replace")) > LARGEST_DOCUMENT_BYTES:
            self.fault((), f"The document is larger than {LARGEST_DOCUMENT_BYTES:,} bytes.")
            return
        loader = None
        try:
            loader = _Loader(text)
            self.value = self._document(loader)
        except yaml.MarkedYAMLError as error:
            mark: Any = error.problem_mark or error.context_mark
            self._add("", mark.line + 1 if mark else 1, f"This is not YAML: {error.problem or error.context}.")
        except yaml.YAMLError as error:
            self._add("", 1, f"This is not YAML: {' '.join(str(error).split())}.")
        finally:
            if loader is not None:
                loader.dispose()

    def fault(self, path: Path, message: str) -> None:
        self._add(shown_path(path), self.line(path), message)

    def line(self, path: Path) -> int:
        """The line of a part, or of the nearest thing around it that is written down."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def keys(self, path: Path) -> set[str]:
        """The names written in the mapping at this place, whether or not what stands under them is right."""
        value = self.at(path)
        return set(value) if isinstance(value, dict) else set()

    def at(self, path: Path) -> Any:
        """What is written at this place; None when nothing is."""
        value = self.value
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value

    def _add(self, path: str, line: int, message: str) -> None:
        self.faults.append(Fault(path=path, line=line, message=message))

    def _document(self, loader: Any) -> Any:
        events = _events(loader)
        first = next(events, None)
        if first is None:
            return None
        value = self._node(loader, events, first, ())
        second = next(events, None)
        if second is not None:
            self._add("", _line(second), "There is a second document (---); only one is read.")
        return value

    def _node(self, loader: Any, events: Iterator[Any], event: Any, path: Path) -> Any:
        self._lines.setdefault(path, _line(event))
        if len(path) > _DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"it is nested deeper than {_DEEPEST} levels", problem_mark=event.start_mark
            )
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases (& *) are not accepted", problem_mark=event.start_mark
            )
        if event.tag not in (None, "!"):
            raise yaml.MarkedYAMLError(problem=f"tags ({event.tag}) are not accepted", problem_mark=event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(loader, event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            found: list[Any] = []
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                found.append(self._node(loader, events, event, (*path, len(found))))
            return found
        return self._mapping(loader, events, path)

    def _mapping(self, loader: Any, events: Iterator[Any], path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise yaml.MarkedYAMLError(problem="a name must be plain text", problem_mark=event.start_mark)
            line, name = _line(event), event.value
            if not isinstance(self._scalar(loader, event, path), str):
                self._add(shown_path((*path, name)), line, f"{name} is no text here; put the name in quotes.")
            here = (*path, name)
            if name in found:
                self._add(shown_path(here), line, f"{name!r} is there twice; the first is in line {self.line(here)}.")
                self._node(loader, events, next(events), here)
                continue
            self._lines[here] = line
            found[name] = self._node(loader, events, next(events), here)
        return found

    def _scalar(self, loader: Any, event: Any, path: Path) -> Any:
        tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag not in _PLAIN:
            return event.value  # Text, and what YAML 1.1 would take for a date.
        try:
            value = loader.construct_object(yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark))
        except ValueError:
            value = math.nan
        if isinstance(value, float) and not math.isfinite(value):
            self._add(
                shown_path(path), event.start_mark.line + 1, f"{event.value[:40]} is not a number that can be kept."
            )
            return 0
        return value


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _events(loader: Any) -> Iterator[Any]:
    outer = (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentStartEvent, yaml.DocumentEndEvent)
    while loader.check_event():
        event = loader.get_event()
        if not isinstance(event, outer):
            yield event


def shown_path(path: Path) -> str:
    """`vos.astro.groups.users.members[2]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
