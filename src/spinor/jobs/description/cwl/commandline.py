"""The command line of a CWL tool: arguments and bound inputs in the order of the standard."""

from dataclasses import dataclass, field
from typing import Any

from spinor.jobs.description.cwl.expressions import Scope, text_of_value
from spinor.jobs.description.cwl.inputs import short

Key = tuple[float, int, int, str]  # Position; arguments before inputs; then by index, then by name.


@dataclass
class Word:
    text: str
    quoted: bool = True  # False: the shell may act on it (ShellCommandRequirement).
    file: bool = False  # The path of a staged file.


@dataclass
class CommandLine:
    words: list[Word] = field(default_factory=list)
    with_shell: bool = False


def command_line(tool: Any, scope: Scope, values: dict[str, Any], shell: bool) -> CommandLine:
    """Raises BadCWL where something is bound in a way that is not understood."""
    parts: list[tuple[Key, list[Word]]] = []
    for n, argument in enumerate(tool.arguments or []):
        if isinstance(argument, str):
            parts.append(((0, 0, n, ""), _words(scope.value(argument), None)))
        else:
            key = (_position(argument, scope, None), 0, n, "")
            parts.append((key, _words(scope.value(argument.valueFrom), argument)))
    for parameter in tool.inputs:
        name = short(parameter.id)
        parts += _bound(parameter.type_, parameter.inputBinding, values[name], name, scope)
    parts.sort(key=lambda part: part[0])
    base = tool.baseCommand or []
    line = CommandLine([Word(word) for word in ([base] if isinstance(base, str) else base)])
    for _, words in parts:
        line.words += words
    line.with_shell = shell and not all(word.quoted for word in line.words)
    return line


def _bound(kind: Any, binding: Any, value: Any, name: str, scope: Scope) -> list[tuple[Key, list[Word]]]:
    kind = _fitting(kind, value)
    inner = getattr(kind, "inputBinding", None)
    if value is None:
        return []
    if binding is None and inner is None and getattr(kind, "type_", "") == "record":
        # Its fields stand among the other inputs.
        found = []
        for each in kind.fields or []:
            own = short(each.name)
            found += _bound(each.type_, each.inputBinding, value.get(own), f"{name}.{own}", scope)
        return found
    outer = binding if binding is not None else inner
    if outer is None:
        return []
    key = (_position(outer, scope, value), 1, 0, name)
    if binding is not None and binding.valueFrom is not None:
        return [(key, _words(scope.value(binding.valueFrom, value), binding))]
    if isinstance(value, list):
        return [(key, _array(kind, binding, value, scope))]
    return [(key, _single(kind, outer, value, scope))]


def _array(kind: Any, binding: Any, value: list[Any], scope: Scope) -> list[Word]:
    """The prefix of the array once, then its elements; what its type binds is for each element."""
    if binding is not None and binding.itemSeparator is not None:
        return _words(value, binding)
    inner, items = getattr(kind, "inputBinding", None), getattr(kind, "items", None)
    words = [word for item in value for word in _element(_fitting(items, item), inner, item, scope)]
    if binding is None:
        return words
    lead = [Word(binding.prefix)] if binding.prefix and value else []
    return [_marked(word, binding) for word in lead + words]


def _element(kind: Any, binding: Any, item: Any, scope: Scope) -> list[Word]:
    if binding is not None and binding.valueFrom is not None:
        return _words(scope.value(binding.valueFrom, item), binding)
    if isinstance(item, list):
        return _array(kind, binding, item, scope)
    return _single(kind, binding, item, scope)


def _single(kind: Any, binding: Any, value: Any, scope: Scope) -> list[Word]:
    if not (isinstance(value, dict) and getattr(kind, "type_", "") == "record"):
        return _words(value, binding)
    parts: list[tuple[Key, list[Word]]] = []
    for each in kind.fields or []:
        parts += _bound(each.type_, each.inputBinding, value.get(short(each.name)), short(each.name), scope)
    lead = [Word(binding.prefix)] if binding is not None and binding.prefix else []
    return lead + [word for _, words in sorted(parts, key=lambda part: part[0]) for word in words]


def _marked(word: Word, binding: Any) -> Word:
    return Word(word.text, word.quoted and binding.shellQuote is not False, word.file)


def _words(value: Any, binding: Any) -> list[Word]:
    prefix = getattr(binding, "prefix", None)
    quoted = getattr(binding, "shellQuote", None) is not False
    if value is None or value is False or (isinstance(value, list) and not value):
        return []
    if value is True:
        return [Word(prefix, quoted)] if prefix else []
    separator = getattr(binding, "itemSeparator", None)
    if isinstance(value, list) and separator is None:
        lead = [Word(prefix, quoted)] if prefix else []
        return lead + [word for item in value for word in _words(item, None)]
    text = str(separator).join(map(text_of_value, value)) if isinstance(value, list) else text_of_value(value)
    if not prefix:
        return [Word(text, quoted, isinstance(value, dict))]
    if getattr(binding, "separate", None) is False:
        return [Word(prefix + text, quoted)]
    return [Word(prefix, quoted), Word(text, quoted)]


def _position(binding: Any, scope: Scope, itself: Any) -> float:
    value = scope.value(binding.position, itself)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise scope.source.refuse(str(binding.position), f"position {binding.position!r} is not a number")
    return value


def _fitting(kind: Any, value: Any) -> Any:
    """Of several types, the one that the value is of."""
    if not isinstance(kind, list):
        return kind
    wanted = "array" if isinstance(value, list) else "record" if isinstance(value, dict) else "enum"
    fitting = [each for each in kind if getattr(each, "type_", None) == wanted]
    return fitting[0] if fitting else next((each for each in kind if isinstance(each, str) and each != "null"), None)
