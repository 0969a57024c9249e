"""The pilot as one file: always the same bytes, for every Python from 3.9 on, with nothing but the standard library."""

import ast
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

from spinor.pilots import bundle


@pytest.fixture
def pyz(tmp_path: Path) -> Path:
    target = tmp_path / "deep" / bundle.NAME
    bundle.build(target)
    return target


def test_it_is_reproducible(pyz: Path, tmp_path: Path) -> None:
    first, second = bundle.build(tmp_path / "a.pyz"), bundle.build(tmp_path / "b.pyz")
    assert first == second
    assert (tmp_path / "a.pyz").read_bytes() == (tmp_path / "b.pyz").read_bytes() == pyz.read_bytes()


def test_it_holds_the_pilot_and_nothing_else(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as archive:
        names = archive.namelist()
    assert "__main__.py" in names
    assert all(name == "__main__.py" or name.startswith("spinor_pilot/") for name in names)
    assert pyz.stat().st_size < 100_000


def test_it_imports_the_standard_library_only() -> None:
    for source in files("spinor_pilot").iterdir():
        if source.name.endswith(".py"):
            for node in ast.walk(ast.parse(source.read_text())):
                names = (
                    [alias.name for alias in node.names] if isinstance(node, ast.Import)
                    else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                )  # fmt: skip
                for name in names:
                    top = name.split(".")[0]
                    assert top in sys.stdlib_module_names or top == "spinor_pilot", f"{source.name} imports {name}"


def test_its_grammar_is_python_3_9() -> None:
    for source in files("spinor_pilot").iterdir():
        if source.name.endswith(".py"):
            ast.parse(source.read_text(), feature_version=(3, 9))


def python_3_9() -> str | None:
    """An interpreter of that version: on the path, or where pyenv keeps them."""
    kept = sorted(Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9"))
    for found in (shutil.which("python3.9"), *map(str, kept)):
        # A launcher of that name may be there without the version that it would launch.
        if found and subprocess.run([found, "--version"], capture_output=True).returncode == 0:
            return found
    return None


@pytest.mark.parametrize("which", ["this", "3.9"])
def test_it_runs(pyz: Path, which: str, tmp_path: Path) -> None:
    python = sys.executable if which == "this" else python_3_9()
    if python is None:
        pytest.skip("python3.9 is not installed here")
    # Every module is imported, so that a name which 3.9 does not have shows.
    names = [source.name[:-3] for source in files("spinor_pilot").iterdir() if source.name.endswith(".py")]
    imports = "; ".join(f"import spinor_pilot.{name}" for name in names if not name.startswith("__"))
    checks = [["-c", f"import sys; sys.path.insert(0, {str(pyz)!r}); {imports}"], [str(pyz), "--version"]]
    for check in checks:
        done = subprocess.run([python, "-I", "-B", *check], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    (tmp_path / "launch.json").write_text("{}")
    done = subprocess.run([python, "-I", "-B", str(pyz), "launch.json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "launch.json" in done.stderr
    assert "secret" in done.stderr
