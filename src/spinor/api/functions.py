"""A function as files that go along with a job: its source, and what the source needs.

Nothing is pickled. A function of a module goes with that module; one of a script or a notebook goes as its own text,
with the imports, functions and plain values that it names.
"""

import ast
import builtins
import inspect
import site
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from spinor.api import values
from spinor.errors import BadInput

_MAIN = "spinor_main"  # The module that stands for the script or notebook.


class CannotGo(BadInput):
    """This function cannot run in a job."""

    code = "function-cannot-go"


class Bundle(NamedTuple):
    """Where the function is found in the job, and the files that must be there: their contents by path."""

    module: str
    name: str
    files: dict[str, bytes]


def bundle(function: Callable[..., Any]) -> Bundle:
    """The function as files. Raises CannotGo with what stands in the way."""
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", None) or ""
    if inspect.ismethod(function) and not isinstance(function.__self__, type):
        raise CannotGo(f"{name} belongs to an object of your session; make a function with `def` that gets it as data.")
    if not name or not module:
        raise CannotGo(f"{function!r} is no function with a name; put the call into one made with `def`.")
    if "<lambda>" in name:
        raise CannotGo("A lambda has no text of its own; make the function with `def`.")
    if "<locals>" in name:
        raise CannotGo(
            f"{name} is made inside of another function; make it at the outermost level, and pass what it needs as "
            "arguments."
        )
    files: dict[str, bytes] = {}
    if module != "__main__":
        _add_module(module, files)
        return Bundle(module, name, files)
    text = _Text(files)
    text.add(function, name)
    files[f"{_MAIN}.py"] = text.source().encode()
    return Bundle(_MAIN, name, files)


class _Text:
    """The text of functions of a script, and of what they name."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files
        self._seen: set[str] = set()
        self._imports: list[str] = []
        self._data: list[str] = []
        self._definitions: list[str] = []

    def source(self) -> str:
        head = ["from __future__ import annotations", "import spinor_values", *sorted(self._imports)]
        return "\n".join([*head, *self._data, "", *self._definitions])

    def add(self, made: Any, name: str) -> None:
        """The text of a function or class, after that of what it names."""
        if name in self._seen:
            return
        self._seen.add(name)
        try:
            text = textwrap.dedent(inspect.getsource(made))
        except (OSError, TypeError):
            raise CannotGo(
                f"The text of {name} is not known here; put it into a file of its own, and import it."
            ) from None
        known = _globals_of(made)
        for used in sorted(_names(ast.parse(text), made)):
            if used in known:
                self._need(used, known[used], name)
        self._definitions.append(text)

    def _need(self, name: str, value: Any, user: str) -> None:
        if isinstance(value, ModuleType):
            _add_module(value.__name__, self._files)
            self._imports.append(f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}"))
            return
        home, own = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
        if callable(value) and own:
            if home == "__main__" and own == name:
                self.add(value, name)
                return
            if home and home != "__main__" and "<" not in own and "." not in own:
                _add_module(home, self._files)
                self._imports.append(f"from {home} import {own} as {name}")
                return
        try:
            text = values.dumps(value)
        except values.CannotTravel:
            raise CannotGo(
                f"{user} uses {name}, a {type(value).__module__}.{type(value).__qualname__} of your session, which "
                f"cannot go to another machine; pass what is needed of it as an argument, or make it inside of {user}."
            ) from None
        if name not in self._seen:
            self._seen.add(name)
            self._data.append(f"{name} = spinor_values.loads({text!r})")


def _globals_of(made: Any) -> dict[str, Any]:
    found: dict[str, Any] = getattr(inspect.unwrap(made) if callable(made) else made, "__globals__", None) or vars(
        sys.modules["__main__"]
    )
    return {name: value for name, value in found.items() if not hasattr(builtins, name)}


def _names(tree: ast.AST, made: Any) -> set[str]:
    """The names outside of it that its text uses; those of annotations are never looked up."""
    used = {node.id for node in _walk(tree) if isinstance(node, ast.Name)}
    code = getattr(inspect.unwrap(made), "__code__", None)
    if code is None:
        return used
    # A name that the function sets itself is not one of outside; defaults and decorators are read outside of it.
    outer: set[str] = set()
    definition = next((n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)), None)
    if definition is not None:
        parts = [*definition.decorator_list, *definition.args.defaults, *filter(None, definition.args.kw_defaults)]
        outer = {node.id for part in parts for node in _walk(part) if isinstance(node, ast.Name)}
    return (used & set(_global_names(code))) | outer


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    yield tree
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child)


def _global_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _add_module(name: str, files: dict[str, bytes]) -> None:
    """The files of a module that is one's own; the worker node has to have what is installed."""
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        # A namespace has no file: what is below it counts.
        place = getattr(sys.modules.get(".".join(parts[:n])), "__file__", None)
        if place is not None:
            _add_files(Path(place), "/".join(parts[: n - 1]), files)
            return


def _add_files(place: Path, above: str, files: dict[str, bytes]) -> None:
    if _is_installed(place):
        return
    if place.name != "__init__.py":
        files[f"{above}/{place.name}".lstrip("/")] = place.read_bytes()
        return
    for each in sorted(place.parent.rglob("*")):
        if each.is_file() and "__pycache__" not in each.parts and each.suffix != ".pyc":
            files[f"{above}/{each.relative_to(place.parent.parent)}".lstrip("/")] = each.read_bytes()


def _is_installed(path: Path) -> bool:
    places = [*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()]
    return any(path.is_relative_to(place) for place in places if place)
