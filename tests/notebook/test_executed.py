"""Notebooks that are executed by their own kernels, with tokens as a hub lends and changes them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.acceptance.conftest import Service
from tests.notebook.community import Lent

pytestmark = [pytest.mark.acceptance, pytest.mark.peer("oidc-provider")]
ROOT = Path(__file__).parents[2]


class Kernel:
    """One kernel: cells are run one after the other."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._book = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
        resources = {"metadata": {"path": str(folder)}}
        self.client = NotebookClient(self._book, kernel_name="python3", timeout=120, resources=resources)
        self._environ = environ

    def __enter__(self) -> "Kernel":
        self._context = self.client.setup_kernel(env=self._environ)
        self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)

    def run(self, source: str) -> str:
        """What a cell shows as text; its error is raised."""
        return "".join(_text(output) for output in self.outputs(source))

    def outputs(self, source: str) -> list[Any]:
        cell = nbformat.v4.new_code_cell(source)  # type: ignore[no-untyped-call]
        self._book.cells.append(cell)
        self.client.execute_cell(cell, len(self._book.cells) - 1)
        return list(cell.outputs)

    def error(self, source: str) -> str:
        """What is shown of the error of a cell."""
        with pytest.raises(CellExecutionError):
            self.run(source)
        (output,) = [each for each in self._book.cells[-1].outputs if each.output_type == "error"]
        return "\n".join(output.traceback)


def _text(output: Any) -> str:
    return str(output.text if output.output_type == "stream" else output.get("data", {}).get("text/plain", ""))


@pytest.fixture
def kernel(service: Service, lent: Lent, tmp_path: Path) -> Iterator[Kernel]:
    """A kernel on a hub: it knows the service's address and where tokens are lent, and nothing else."""
    kept = {k: v for k, v in service.environ.items() if not k.startswith(("SPINOR_", "BEARER_", "JUPYTERHUB_"))}
    environ = kept | {
        "SPINOR_URL": service.url,
        "SPINOR_CA_FILE": str(service.work / "data" / "tls" / "ca.pem"),
        "SPINOR_CONFIG_DIR": str(tmp_path / "config"),
        "BEARER_TOKEN_FILE": str(tmp_path / "bearer"),
        "SECRETS_MOUNT_PATH": str(lent.file.parent),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    with Kernel(tmp_path, environ) as opened:
        opened.run("%load_ext spinor")
        yield opened


def test_the_login_asks_nothing(kernel: Kernel, lent: Lent, tmp_path: Path) -> None:
    token = lent.token("carl")
    lent.put(token)
    shown = kernel.run("%login")
    assert "carl, demo_users of demo" in shown
    assert f"in exchange for the token in {lent.file}" in shown
    kernel.run("%%job --as mine\nprint(10 * 10)")
    assert "100" in kernel.run("mine.wait().log()")
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path != lent.file]
    assert not any(token.encode() in path.read_bytes() for path in kept)
    assert not (tmp_path / "bearer").exists()


def test_another_token_in_the_file_is_another_person_at_once(kernel: Kernel, lent: Lent) -> None:
    lent.put(lent.token("carl"))
    assert "carl" in kernel.run("from spinor import connect\ngrid = connect()\ngrid.me")
    lent.put(lent.token("dora"))
    assert "dora" in kernel.run("grid.me")


def test_ours_runs_out_under_the_running_kernel(kernel: Kernel, lent: Lent) -> None:
    lent.put(lent.token("carl"))
    kernel.run("from spinor import connect\ngrid = connect()\nfirst = grid.client.token()")
    assert kernel.run("grid.client.token() == first") == "True"
    kernel.run("import time\nnow = time.time\ntime.time = lambda: now() + 1300")
    assert kernel.run("grid.client.token() == first") == "False"
    assert "carl" in kernel.run("time.time = now\ngrid.me")


def test_a_session_that_was_ended_elsewhere_is_opened_again(kernel: Kernel, lent: Lent) -> None:
    lent.put(lent.token("carl"))
    kernel.run("from spinor import connect\ngrid = connect()\ngrid.me")
    assert "open sessions" in kernel.run("grid.sessions")
    kernel.run("grid.sessions.end(*[row.session_id for row in grid.sessions.rows])")
    assert "carl" in kernel.run("grid.me")


def test_an_expired_token_is_waited_for_until_the_hub_has_renewed_it(kernel: Kernel, lent: Lent) -> None:
    token = lent.token("carl", lives_s=1)
    time.sleep(1.1)
    lent.put(token)
    (lent.file.parent / "renewed").write_text(lent.token("carl"))
    (lent.file.parent / "renewed").chmod(0o600)
    # The hub renews it while the notebook already waits.
    paths = (str(lent.file.parent / "renewed"), str(lent.file))
    hub = f"import os, threading\nthreading.Timer(1, os.replace, {paths!r}).start()"
    assert "carl" in kernel.run(f"{hub}\n%login")


def test_an_expired_token_that_nobody_renews_is_told_in_a_sentence(kernel: Kernel, lent: Lent) -> None:
    token = lent.token("carl", lives_s=1)
    time.sleep(1.1)
    lent.put(token)
    shown = kernel.error("%jobs")
    assert f"the token in {lent.file} has expired and was not renewed" in shown
    assert "%login" in shown
    assert len(shown.splitlines()) == 1


def test_a_token_that_was_taken_away_ends_what_came_from_it(kernel: Kernel, lent: Lent) -> None:
    lent.put(lent.token("carl"))
    kernel.run("%jobs")
    lent.file.unlink()
    assert "the token that the hub had lent is gone" in kernel.error("%jobs")
    lent.put(lent.token("carl"))
    kernel.run("%jobs")


def test_the_display_is_written_over_while_jobs_run(kernel: Kernel, lent: Lent) -> None:
    lent.put(lent.token("carl"))
    kernel.run("from spinor import connect\nsubmit = connect().jobs.submit")
    outputs = kernel.outputs("jobs = submit(executable='sleep', arguments=['1'], parameters={'n': [1, 2]}).wait()")
    (display,) = [each for each in outputs if each.output_type == "display_data"]
    assert "2 done" in display.data["text/plain"]
    # What was followed is not shown a second time in the same cell, but in the next.
    assert len(kernel.outputs("job = submit(executable='true')\njob.wait()")) == 1
    assert "done" in kernel.run("job")
    assert "done" in display.data["text/html"]


def test_the_stop_button_ends_the_waiting_and_not_the_job(kernel: Kernel, lent: Lent) -> None:
    lent.put(lent.token("carl"))
    kernel.run("%%job --as long\nimport time; time.sleep(600)")
    stop = "import _thread, os, signal, threading\nthreading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()"
    assert "KeyboardInterrupt" in kernel.error(f"{stop}\nlong.wait()")
    assert kernel.run("long.ended") == "False"
    assert kernel.run("long.kill().wait()\nlong.status").endswith("'killed'")
