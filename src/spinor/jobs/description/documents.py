"""YAML or JSON text -> documents, and where in the text a field of one stands."""

import re
from collections.abc import Hashable, Iterator
from typing import Any

import msgspec
import yaml

from spinor.jobs.description.faults import BadDescription

MAX_NODES = 20_000_000  # With every alias written out; less would be too few for a million parameters.
MAX_DEPTH = 50
_SEARCHED_BYTES = 4 * 1024 * 1024  # Of a longer text, a wrong field is named without its line.
_COUNTED_BYTES = 256 * 1024
_FEW = 40
_DEEP_LINE = re.compile(r"^[ \t?:-]{40,}", re.MULTILINE)
_TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_BOOLEAN = "tag:yaml.org,2002:bool"
_MERGE = "tag:yaml.org,2002:merge"
_STEP = re.compile(r"\[(\d+)\]|\.?([^.\[\]]+)")


class BadText(BadDescription):
    """The text is neither YAML nor JSON."""

    code = "bad-description-text"


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML in which a date stays the text that was written, `on` and `no` are words, and a key is given once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"`{key.value}` is given a second time", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_TIMESTAMP, _BOOLEAN)]
    for first, resolvers in Loader.yaml_implicit_resolvers.items()
}
# As YAML 1.2 has it, and editors.
Loader.add_implicit_resolver(_BOOLEAN, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


class Text(msgspec.Struct, frozen=True):
    """A text and what to call it in an error; "" for none."""

    text: str
    name: str = ""

    def documents(self) -> list[Any]:
        """Every document that is not empty. A list is one document. Raises BadText with line and column."""
        if self.text.lstrip().startswith("{"):
            # JSON of any size is read at once; what is none may still be YAML, which has better words for it.
            try:
                return [msgspec.json.decode(self.text)]
            except RecursionError:
                raise self._refusal(_TOO_DEEP, None) from None
            except (msgspec.DecodeError, UnicodeEncodeError):
                pass
        try:
            self._check_depth()
            if "&" in self.text and "*" in self.text:
                self._check_aliases()
            return [document for document in yaml.load_all(self.text, Loader) if document is not None]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = error.problem or error.context or "it cannot be read"
            raise self._refusal(problem, _of_mark(mark) if mark else None) from None
        except yaml.reader.ReaderError as error:
            place = self._place_of(error.position) if isinstance(error.position, int) else None
            raise self._refusal(f"there is a character that YAML does not allow, {error.reason}", place) from None
        except RecursionError:
            raise self._refusal(_TOO_DEEP, None) from None
        except (yaml.YAMLError, ValueError, UnicodeError, AttributeError, TypeError) as error:
            # A tag of YAML's own on a value that is not of its kind, such as !!int on a word.
            raise self._refusal(str(error).splitlines()[0][:200] if str(error) else "it cannot be read", None) from None

    def _refusal(self, problem: str, place: tuple[int, int] | None) -> BadText:
        where = f"line {place[0]}, column {place[1]}: " if place else ""
        name = f"{self.name}: " if self.name else ""
        facts = {"line": place[0], "column": place[1]} if place else {}
        return BadText(f"{name}{where}it is not YAML or JSON: {problem}.", **facts)

    def _place_of(self, position: int) -> tuple[int, int]:
        start = self.text.rfind("\n", 0, position) + 1
        return self.text.count("\n", 0, position) + 1, position - start + 1

    def _check_depth(self) -> None:
        """libyaml's composer recurses without a bound, and ends the process; so the depth is counted beforehand.

        Of a long text only where brackets or a line's beginning allow for any depth, since it doubles the time.
        """
        text = self.text
        long = len(text) > _COUNTED_BYTES and text.count("[") + text.count("{") <= _FEW
        if long and not _DEEP_LINE.search(text):
            return
        depth = 0
        for event in yaml.parse(text, Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise self._refusal(_TOO_DEEP, _of_mark(event.start_mark))
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1

    def _check_aliases(self) -> None:
        """A few aliases of aliases write out to more than any memory holds."""
        for node in yaml.compose_all(self.text, Loader):
            if node is not None and (_size(node, {}, 0) or MAX_NODES + 1) > MAX_NODES:
                problem = "its aliases name each other, or would be written out to too much"
                raise self._refusal(problem, _of_mark(node.start_mark))

    def place_of_field(self, document: int, field: str) -> tuple[int, int] | None:
        """Line and column of the field, or of the nearest above it that is there."""
        if len(self.text) > _SEARCHED_BYTES:
            return None
        try:
            self._check_depth()
            nodes = [node for node in yaml.compose_all(self.text, Loader) if node is not None and not _is_null(node)]
        except (yaml.YAMLError, RecursionError, ValueError, BadText):
            return None  # JSON that is no YAML, such as one with tabs.
        if document >= len(nodes):
            return None
        return _of_mark(_found(nodes[document], list(_steps(field))))


def _of_mark(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _size(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """How many nodes there are below, written out; 0 for no end."""
    if depth > MAX_DEPTH:
        raise RecursionError
    known = sizes.get(id(node))
    if known is not None:
        return known
    sizes[id(node)] = 0  # Found again before it is counted: it contains itself.
    if isinstance(node, yaml.MappingNode):
        children = [each for pair in node.value for each in pair]
    else:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
    total = 1
    for child in children:
        size = _size(child, sizes, depth + 1)
        if not size:
            return 0
        total += size
    sizes[id(node)] = total
    return total


def _steps(field: str) -> Iterator[str | int]:
    for index, name in _STEP.findall(field):
        yield int(index) if index else name.strip("'\"")


def _found(node: yaml.Node, steps: list[str | int]) -> Any:
    mark = node.start_mark
    for step in steps:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if getattr(key, "value", None) == str(step)]
            if not pairs:
                return mark
            mark, node = pairs[0][0].start_mark, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            mark = node.start_mark
        else:
            return mark
    return mark
