"""The command line: light to start, one spelling, one sentence for whatever goes wrong."""

import subprocess
import sys

import pytest

from spinor.cli import _SECTIONS, COMMANDS, root

HEAVY = {"asyncio", "httpx", "pydantic", "starlette", "uvicorn", "psycopg", "rich", "pyarrow", "numpy", "cryptography"}


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spinor", *words],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environ},
    )  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], ["job", "--help"], ["file", "--help"], ["whoami"]], ids=" ".join)
def test_a_command_imports_nothing_heavy(words: list[str]) -> None:
    code = f"import sys; from spinor.cli import run; run({words!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stderr.split("\n")[-2].split())


def test_every_command_can_be_imported_and_has_help() -> None:
    for name in COMMANDS:
        command = root.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert command.name == name
        assert command.help, name
        for sub_name, sub in getattr(command, "commands", {}).items():
            assert sub.help, f"{name} {sub_name}"


def test_the_help_lists_every_command() -> None:
    assert sorted(name for names in _SECTIONS.values() for name in names) == sorted(COMMANDS)


def test_a_misspelt_command_is_explained() -> None:
    done = run("jbo", "list")
    assert done.returncode == 2
    assert "did you mean 'job'" in done.stderr


def test_without_a_server_the_remedy_is_named() -> None:
    done = run("job", "list", SPINOR_CONFIG_DIR="/nonexistent")
    assert done.returncode == 3
    assert "spinor up" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_answer_is_no_traceback() -> None:
    done = run("job", "list", SPINOR_URL="https://localhost:1", BEARER_TOKEN="a.b.c")
    assert done.returncode == 75
    assert "does not answer" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    assert "_SPINOR_COMPLETE" in run("completion", shell).stdout
