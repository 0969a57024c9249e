"""Functions as files: what goes along, and what cannot."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from spinor.api import calling, values
from spinor.api.functions import CannotGo, bundle

# A program whose functions are bundled in one process and called in another, as in a job.
_PROGRAM = """
import json, math, sys
import math as m
from pathlib import Path
import mine

OFFSET = 10
TABLE = {"a": [1, 2]}
held = open(__file__)

def plain(x): return x + OFFSET
def uses(x, k=OFFSET):
    return plain(x), m.floor(math.pi), TABLE["a"], k
def annotated(x: "held", *, path: Path = Path("a")) -> "nonsense":
    y: held = x
    return str(path), y
def local(x):
    held = x
    return [held for _ in range(2)]
def recursive(n): return 1 if n < 2 else n * recursive(n - 1)
def from_module(x): return mine.twice(x)
def closed(x): return held.read()
class Point:
    def __init__(self, x): self.x = x
    def shift(self): return self.x + OFFSET
def with_class(x): return Point(x).shift()
def outer():
    def inner(): return 1
    return inner

from spinor.api.functions import bundle
made = bundle(eval(sys.argv[1]))
for name, content in made.files.items():
    place = Path(sys.argv[2], name); place.parent.mkdir(parents=True, exist_ok=True); place.write_bytes(content)
print(made.module, made.name)
"""


def call(tmp_path: Path, expression: str, arguments: str) -> str:
    program, there = tmp_path / "program.py", tmp_path / "there"
    program.write_text(_PROGRAM)
    (tmp_path / "mine.py").write_text("def twice(x): return 2 * x\n")
    there.mkdir()
    found = subprocess.run(
        [sys.executable, str(program), expression, str(there)], capture_output=True, text=True, cwd=tmp_path
    )
    if found.returncode:
        return found.stderr.splitlines()[-1]
    module, name = found.stdout.split()
    (there / "spinor_values.py").write_bytes(Path(values.__file__).read_bytes())
    code = f"import {module}\nprint(repr({module}.{name}({arguments})))"
    # Nothing of the place where it was made is there, nor of Spinor.
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(there)!r})\n{code}"],
                          capture_output=True, text=True, cwd=there)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("expression", "arguments", "expected"),
    [
        ("plain", "1", "11"),
        ("uses", "1", "(11, 3, [1, 2], 10)"),
        ("annotated", "3", "('a', 3)"),
        ("local", "7", "[7, 7]"),
        ("recursive", "5", "120"),
        ("from_module", "4", "8"),
        ("mine.twice", "4", "8"),
        ("math.sqrt", "9", "3.0"),
    ],
)
def test_a_function_takes_along_what_it_names(tmp_path: Path, expression: str, arguments: str, expected: str) -> None:
    assert call(tmp_path, expression, arguments) == expected


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python tells the text of classes of a script from 3.13 on")
def test_a_class_of_the_script_goes_along(tmp_path: Path) -> None:
    assert call(tmp_path, "with_class", "1") == "11"


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("closed", "closed uses held, a _io.TextIOWrapper of your session"),
        ("outer()", "made inside of another function"),
        ("lambda x: x", "A lambda has no text"),
        ("__import__('functools').partial(plain, 1)", "no function with a name"),
    ],
)
def test_what_cannot_go_is_said(tmp_path: Path, expression: str, says: str) -> None:
    assert says in call(tmp_path, expression, "")


def test_a_package_goes_whole_and_installed_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "ownpackage"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "__init__.py").write_text(textwrap.dedent("def f(x):\n    return x\n"))
    (package / "table.txt").write_text("1")
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    made = bundle(importlib.import_module("ownpackage.inner").f)
    assert (made.module, made.name) == ("ownpackage.inner", "f")
    assert set(made.files) == {"ownpackage/__init__.py", "ownpackage/inner/__init__.py", "ownpackage/table.txt"}
    import numpy as np

    assert bundle(np.linalg.norm).files == {}


def test_bound_methods_and_instances_are_refused() -> None:
    with pytest.raises(CannotGo):
        bundle("text".upper)
    with pytest.raises(CannotGo, match="belongs to an object"):
        bundle(Path().resolve)


@pytest.mark.parametrize("module", [calling, values])
def test_what_goes_along_is_understood_by_older_pythons(module: ModuleType) -> None:
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported - {"numpy"} <= sys.stdlib_module_names
