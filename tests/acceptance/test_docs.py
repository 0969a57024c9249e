"""The documentation as its reader meets it: every command of the tutorial and of the README is run as it stands."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import SPINOR, Service, start_service

pytestmark = pytest.mark.acceptance
ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")


def commands(page: str) -> list[tuple[str, str]]:
    """The commands of a page's console blocks, each with the output that the page shows for it."""
    found: list[tuple[str, str]] = []
    for block in BLOCK.findall(page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines(keepends=True)
            count = 1
            while count < len(lines) and lines[count].startswith(("> ", ">\n")):
                count += 1
            command = "".join("\n" if line == ">\n" else line.removeprefix("> ") for line in lines[:count])
            found.append((command, "".join(lines[count:])))
    return found


def matches(expected: str, found: str) -> bool:
    """Whether the output is as shown; `…` stands for anything, and runs of blanks count as one."""

    def squeezed(text: str) -> str:
        return "\n".join(re.sub(r"[ \t─━]+", " ", line).strip() for line in text.strip().splitlines())

    pattern = ".*?".join(re.escape(part) for part in squeezed(expected).split("…"))
    return re.fullmatch(pattern, squeezed(found), re.DOTALL) is not None


@pytest.fixture
def own_service() -> Iterator[Service]:
    """A page begins with a service that has just been started."""
    work = Path(tempfile.mkdtemp(prefix="spinor-docs-"))
    work.chmod(0o711)
    service = start_service(work)
    try:
        yield service
    finally:
        service.run("down")
        subprocess.run(["rm", "-rf", str(work)], check=True)


PAGES = [
    "docs/tutorials/first-job.md",
    "README.md",
    "docs/how-to/many-jobs.md",
    "docs/how-to/job-graphs.md",
    "docs/how-to/wait-and-explain.md",
    "docs/how-to/jobs-from-python.md",
    "docs/how-to/coming-from-dirac.md",
    "docs/how-to/check-a-storage.md",
    "docs/how-to/sandboxes-and-logs.md",
    "docs/how-to/check-a-certificate.md",
]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_works_as_typed(own_service: Service, tmp_path: Path, name: str) -> None:
    environ = {
        **own_service.environ,
        "PATH": f"{Path(SPINOR).parent}:{own_service.environ['PATH']}",
        "HOME": str(tmp_path),
    }
    ran = commands((ROOT / name).read_text())
    assert ran
    for command, expected in ran:
        if command.startswith(("git clone", "make ", "cd ", ". .venv")):
            continue  # How to get and start what this test already has.
        # Both streams together, in the order in which a terminal shows them.
        done = subprocess.run(
            ["bash", "-c", command], env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=120,
        )  # fmt: skip
        shown = done.stdout
        assert "Traceback" not in shown
        assert matches(expected, shown), f"$ {command}\nexpected:\n{expected}\nfound ({done.returncode}):\n{shown}"


def pages() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_and_no_page_is_empty(page: Path) -> None:
    text = page.read_text()
    assert len(text) > 200
    assert [link for link in LINK.findall(text) if not (page.parent / link).exists()] == []
