"""Descriptions in every language and from every source, as a person gives them to the command line."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from .conftest import Done, Service

pytestmark = pytest.mark.acceptance


@pytest.fixture
def folder(service: Service, tmp_path: Path) -> Path:
    (tmp_path / "run.sh").write_text("#!/bin/sh\necho ran with $*\n")
    return tmp_path


def files(service: Service, *words: str, ids: Done) -> str:
    service.ok("job", "wait", *ids.lines)
    return "".join(service.ok("job", "log", job_id).out for job_id in ids.lines)


def test_jdl_runs(service: Service, folder: Path) -> None:
    (folder / "job.jdl").write_text(
        '[ Executable = "run.sh"; InputSandbox = {"run.sh"}; Arguments = "%s \'two words\' %n";\n'
        '  Parameters = {"a", "b"}; CPUTime = 1000; LogLevel = "INFO"; OutputSandbox = {"std.out"}; ]'
    )
    ids = service.ok("job", "submit", "-q", str(folder / "job.jdl"))
    assert "LogLevel: it is left out" in ids.err
    assert len(ids.lines) == 2
    assert files(service, ids=ids) == "ran with a two words 0\nran with b two words 1\n"


def test_a_cwl_tool_runs(service: Service, folder: Path) -> None:
    (folder / "notes.txt").write_text("muon\nmuon\ntau\n")
    (folder / "count.cwl").write_text(
        "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: [grep, -c]\nstdin: $(inputs.text.path)\n"
        "inputs:\n  word: {type: string, inputBinding: {}}\n  text: File\noutputs: {count: stdout}\n"
    )
    order = "word: {}\ntext: {{class: File, location: notes.txt}}\n"
    (folder / "order.yaml").write_text(f"{order.format('muon')}---\n{order.format('tau')}")
    ids = service.ok("job", "submit", "-q", str(folder / "count.cwl"), "--inputs", str(folder / "order.yaml"))
    assert files(service, ids=ids) == "2\n1\n"


def test_a_table_and_a_list_on_stdin(service: Service, folder: Path) -> None:
    (folder / "runs.csv").write_text("run,name\n007,x\n8,y z\n")
    text = "executable: echo\narguments: ['{run}', '{name}']\n"
    ids = service.ok("job", "submit", "-q", "-", "--table", str(folder / "runs.csv"), "--set", "tags=[]", stdin=text)
    assert files(service, ids=ids) == "007 x\n8 y z\n"
    text = "- {executable: echo, name: first}\n- {executable: echo, after: [{name: first}]}\n"
    ids = service.ok("job", "submit", "-q", "-", stdin=text)
    assert len(ids.lines) == 2
    service.ok("job", "wait", *ids.lines)


def test_a_dry_run_shows_everything_and_stores_nothing(service: Service, folder: Path) -> None:
    (folder / "job.yaml").write_text(
        "executable: ./run.sh\nname: tried\ninput_sandbox: [run.sh]\ncores: 900\n"
        "parameters: {n: [1, 2]}\narguments: ['{n}']\n"
    )
    before = service.ok("job", "list", "-q").lines
    shown = service.ok("job", "submit", "--dry-run", str(folder / "job.yaml"))
    assert "tried: 2 jobs" in shown.out
    assert "cores: the job asks for 900" in shown.out
    assert "input sandbox:" in shown.out
    assert "No computing element" in shown.err
    assert shown.err.startswith("Nothing was submitted.\n")
    [array] = service.ok("job", "submit", "--dry-run", "--json", str(folder / "job.yaml")).models
    assert (array["size"], array["first"]["arguments"], array["requirements"]["cores"]) == (2, ["1"], 900)
    assert service.ok("job", "list", "-q").lines == before


@pytest.mark.parametrize(
    ("name", "text", "fragment"),
    [
        (
            "a.yaml",
            "executable: x\ncoers: 1\n",
            "a.yaml: line 2, column 1: there is no field `coers`; did you",
        ),
        ("a.jdl", '[ Executable = "x"', "a.jdl: line 1, column 1: the [ that opens here is never closed"),
        ("a.cwl", "cwlVersion: v1.2\nclass: Workflow\n", "a.cwl: line 2, column 1: class is 'Workflow'"),
    ],
)
def test_a_fault_is_placed(service: Service, folder: Path, name: str, text: str, fragment: str) -> None:
    (folder / name).write_text(text)
    done = service.run("job", "submit", str(folder / name))
    assert done.code == 2
    assert fragment in done.err


def test_the_schema_is_printed(service: Service) -> None:
    published: dict[str, Any] = json.loads(service.ok("job", "schema").out)
    jsonschema.Draft202012Validator(published).validate({"executable": "x", "cores": 2})
