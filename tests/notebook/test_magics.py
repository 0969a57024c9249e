"""The magics in IPython, on a real service."""

from pathlib import Path

import pyarrow as pa
import pytest

from spinor import connect
from spinor.api.files import FileSet
from spinor.api.grid import Me
from spinor.api.job import Job
from spinor.api.sets import JobSet
from spinor.client import RemoteError
from spinor.errors import BadInput, NotSignedIn, SpinorError
from tests.acceptance.conftest import Service
from tests.notebook.conftest import Notebook

pytestmark = pytest.mark.acceptance


def test_a_cell_runs_as_a_job(notebook: Notebook) -> None:
    job = notebook.run("%%job --name sum --as mine -- 1000\nimport sys\nprint(sum(range(int(sys.argv[1]))))")
    assert isinstance(job, Job)
    notebook.run("mine.wait()")
    assert notebook.shell.user_ns["mine"].log() == "499500\n"
    shown = notebook.shown(job)
    assert "sum: done" in shown["text/plain"]
    assert "499500" in shown["text/html"]
    assert job.explain()
    assert job.exit_code == 0


def test_the_first_line_of_a_cell_may_name_its_program(notebook: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    job = notebook.run('%%job --env WHO=world\n#!/bin/bash\necho "hello $WHO"; echo beside >&2; exit 3')
    capsys.readouterr()
    notebook.run(f"%logs -f {job.job_id}")
    assert capsys.readouterr().out == "hello world\n"
    notebook.run(f"%logs --stream stderr {job.job_id}")
    assert capsys.readouterr().out == "beside\n"
    assert job.wait().exit_code == 3
    assert notebook.run(f"%job {job.job_id}").status == "failed"


def test_a_file_goes_into_the_catalog_into_a_job_and_comes_back(notebook: Notebook, tmp_path: Path) -> None:
    (tmp_path / "numbers.txt").write_text("1\n2\n3\n")
    put = notebook.run("%put numbers.txt /demo/notebook/numbers.txt")
    assert put.lfns == ["/demo/notebook/numbers.txt"]
    cell = "import json, os\n[file] = json.load(open(os.environ['SPINOR_INPUTS']))\n"
    cell += "open('sum.txt', 'w').write(str(sum(map(int, open(file['path'])))))"
    options = "--input-data /demo/notebook/numbers.txt --output-data sum.txt=/demo/notebook/sum.txt@local"
    job = notebook.run(f"%%job {options}\n{cell}").wait()
    assert job.status == "done", job.explain()
    assert job.files.lfns == ["/demo/notebook/sum.txt"]
    assert notebook.run("%get /demo/notebook/sum.txt fetched.txt") == ["fetched.txt"]
    assert Path("fetched.txt").read_text() == "6"
    found = notebook.run("%find --fields size,owner --limit 10 /demo/notebook name like *.txt")
    assert isinstance(found, FileSet)
    assert sorted(found.lfns) == ["/demo/notebook/numbers.txt", "/demo/notebook/sum.txt"]
    assert notebook.run("%find name=sum.txt").lfns == ["/demo/notebook/sum.txt"]
    assert [path.name for path in found.get("all")] == [lfn.rpartition("/")[2] for lfn in found.lfns]


def test_results_are_tables_of_other_libraries(notebook: Notebook) -> None:
    jobs = notebook.run(
        "from spinor import connect\n"
        "three = dict(name='three', executable='echo', arguments=['{n}'], parameters={'n': [1, 2, 3]})\n"
        "jobs = connect().jobs.submit(**three)\n"
        "jobs.wait()"
    )
    assert isinstance(jobs, JobSet)
    table = jobs.to_arrow()
    assert table["status"].to_pylist() == ["done"] * 3
    assert table.schema.field("submitted_at").type == pa.timestamp("us", "UTC")
    frame = jobs.to_pandas()
    assert list(frame["name"]) == ["three"] * 3
    assert str(frame["ended_at"].dtype) == "datetime64[us, UTC]"
    # A set is found again by its array, as after a restart of the kernel.
    (array_id,) = jobs.ids.array_ids
    again = connect().jobs.array(array_id)
    assert again.counts == {"done": 3}
    assert [job.log() for job in again] == ["1\n", "2\n", "3\n"]
    assert len(notebook.run(f"%jobs array_id={array_id}")) == 3
    assert "3 jobs" in notebook.shown(again)["text/plain"]


def test_functions_of_cells_run_as_jobs(notebook: Notebook) -> None:
    notebook.run("import math\nSCALE = 10")
    notebook.run("def helper(x):\n    return SCALE * x\n\ndef scaled(x):\n    return helper(math.sqrt(x))")
    cell = "import spinor\nwith spinor.connect().executor() as pool:\n    found = list(pool.map(scaled, [4, 9]))\nfound"
    assert notebook.run(cell) == [20.0, 30.0]


async def test_jobs_can_be_awaited(notebook: Notebook) -> None:
    job = connect().jobs.submit(executable="true")
    assert isinstance(job, Job)
    assert (await job).ended


def test_what_runs_is_killed(notebook: Notebook) -> None:
    job = notebook.run("%%job\nimport time; time.sleep(600)")
    notebook.run(f"%kill {job.job_id}")
    assert job.wait().status == "killed"


def test_who_is_signed_in_is_shown_without_the_token(notebook: Notebook) -> None:
    me = notebook.run("%login")
    assert isinstance(me, Me)
    assert (me.vo, me.group) == ("demo", "demo_users")
    token = connect().client.token()
    assert not any(part in text for text in notebook.shown(me).values() for part in token.split("."))


def test_another_role_is_another_sign_in(notebook: Notebook) -> None:
    assert notebook.run("%login --group demo_admins").group == "demo_admins"
    assert connect().me.group == "demo_users"


def test_signing_out_ends_it_for_the_notebook_alone(notebook: Notebook, service: Service) -> None:
    notebook.run("%logout")
    with pytest.raises(NotSignedIn, match="You are not signed in"):
        notebook.run("%jobs")
    service.ok("whoami")
    notebook.run("%login")
    notebook.run("%jobs")


def test_the_end_of_a_session_of_the_notebook_is_told_to_the_service(notebook: Notebook) -> None:
    grid = connect()
    grid.login(group="demo_admins")
    refresh_token = grid.client.server.refresh_token
    grid.logout()
    with pytest.raises(RemoteError):
        connect().client.token_request({"grant_type": "refresh_token", "refresh_token": refresh_token or ""})


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%job x", "is not a job id"),
        ("%job", "Name jobs by id"),
        ("%job 999999", "999999"),
        ("%%job --coress 2\nprint()", "--cores"),
        ("%%job\n\n", "The cell is empty"),
        ("%%job --cores many\nprint()", "not a valid integer"),
        ("%find size >", "expected a value"),
        ("%find --limit none", "whole number"),
        ("%get", "Write %get LFN"),
        ("%get /demo/nothing", "/demo/nothing"),
        ("%put nothing /demo/x", "There is no file"),
        ("%%job --input-sandbox no-such-file\nprint()", "there is no file"),
        ("%logs", "Name one job"),
        ("%proxy --hours 0", "0.02"),
        ("%jobs nofield=1", "nofield"),
        ("%login --vo 'open", "not understood"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(
    notebook: Notebook, capsys: pytest.CaptureFixture[str], cell: str, says: str
) -> None:
    with pytest.raises(SpinorError, match=says):
        notebook.run(cell)
    shown = "".join(capsys.readouterr())
    assert says in shown
    assert "Traceback" not in shown
    assert len(shown.splitlines()) <= 3


def test_without_the_extension_there_are_tracebacks_again(notebook: Notebook) -> None:
    notebook.run("%unload_ext spinor")
    assert not hasattr(BadInput, "_render_traceback_")
    notebook.run("%load_ext spinor")


def test_a_token_that_is_given_is_the_only_one(notebook: Notebook, service: Service) -> None:
    with pytest.raises(NotSignedIn):
        _ = connect(token="nothing of ours").me
    token = connect().client.token()
    assert connect(service.url, token=token).me.vo == "demo"


def test_without_a_server_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINOR_CONFIG_DIR", str(tmp_path))
    monkeypatch.delenv("SPINOR_URL", raising=False)
    with pytest.raises(SpinorError, match="SPINOR_URL"):
        connect()


def test_the_hubs_default_server_is_found(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinor.credentials.DEFAULTS_FILE", service.work / "config" / "client.json")
    monkeypatch.setenv("SPINOR_CONFIG_DIR", str(tmp_path))
    monkeypatch.delenv("SPINOR_URL", raising=False)
    assert connect().client.url == service.url
