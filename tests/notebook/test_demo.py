"""The example notebook, executed as it stands."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.acceptance.conftest import Service

pytestmark = pytest.mark.acceptance
BOOK = Path(__file__).parents[2] / "demo" / "notebook.ipynb"


def test_the_example_runs_and_is_kept_without_outputs(service: Service, tmp_path: Path) -> None:
    book = nbformat.read(BOOK, as_version=4)  # type: ignore[no-untyped-call]
    assert not any(cell.get("outputs") for cell in book.cells)
    ours = {"BEARER_TOKEN_FILE", "SPINOR_CONFIG_DIR"}
    environ = {k: v for k, v in service.environ.items() if k in ours or not k.startswith(("SPINOR_", "BEARER_"))}
    environ["IPYTHONDIR"] = str(tmp_path / "ipython")
    client = NotebookClient(book, kernel_name="python3", timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=environ)
    shown = str([cell.get("outputs") for cell in book.cells])
    assert "4 done" in shown
    assert "/demo/notebook-demo/pi-" in shown
