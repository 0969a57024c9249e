"""YAML and JSON with line and column, which language a text is in, settings, tables, and texts meant to do harm."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spinor.errors import SpinorError
from spinor.jobs.cli.descriptions import Reading, documents, read_descriptions
from spinor.jobs.description.documents import BadText, Text
from spinor.jobs.description.kinds import Kind, kind_of
from spinor.jobs.description.table import BadTable, read_table
from spinor.jobs.models import After, JobSpec


def read(folder: Path, text: str, name: str = "job.yaml", **how: Any) -> list[JobSpec]:
    (folder / name).write_text(text)
    reading = Reading(**how)
    return [spec for spec, _ in read_descriptions(documents([str(folder / name)], reading), {}, reading)]


def test_a_list_is_several_descriptions_that_may_wait_for_each_other(tmp_path: Path) -> None:
    text = "- {executable: a, name: prepare}\n- executable: b\n  after: [{name: prepare}]\n---\nexecutable: c\n"
    specs = read(tmp_path, text)
    assert [spec.executable for spec in specs] == ["a", "b", "c"]
    assert specs[1].after == [After(name="prepare")]
    with pytest.raises(SpinorError, match="waits for"):
        read(tmp_path, "- {executable: a, after: [{name: b}]}\n- {executable: b, after: [{name: a}]}\n")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("executable: x\ncoers: 2\n", "line 2, column 1: there is no field `coers`; did you mean `cores`?"),
        (
            "executable: x\noutput_data:\n  - pattern: a\n    lfn: b\n",
            "line 3, column 5: output_data[0]: there is no field `pattern`; did you mean `path`?",
        ),
        ("executable: x\noutput_data:\n  - path: a\n    lfn: b\n    se: S\n", "line 4, column 5: output_data[0].lfn: "),
        ("executable: x\nsites: [1]\n", "line 2, column 9: sites[0]: Expected `str`, got `int`; put it in quotes"),
        ("executable: x\nhold: yes\n", "line 2, column 1: hold: Expected `bool`, got `str`; write true or false"),
        ("executable: x\n---\nexecutable: y\ncores: 0\n", "document 2: line 4, column 1: cores: Expected"),
        ("- executable: x\n- executable: y\n  cores: 0\n", "document 1[1]: line 3, column 3: cores: Expected"),
        ('{"executable": "x",\n "memory_bytes": "lots"}', "line 2, column 2: memory_bytes: 'lots' is not a size"),
        ("executable: x\nexecutable: y\n", "line 2, column 1: it is not YAML or JSON: `executable` is given a second"),
        ("executable: x\n\tcores: 1", "line 2, column 1"),
    ],
)
def test_a_fault_has_line_and_column(tmp_path: Path, text: str, fragment: str) -> None:
    with pytest.raises(SpinorError) as caught:
        read(tmp_path, text)
    assert fragment in caught.value.message
    assert caught.value.exit_code == 2


MONSTERS = {
    "flow": "[" * 200_000,
    "braces": "{" * 200_000,
    "block": "- " * 200_000,
    "questions": "? " * 200_000,
    "json": '{"a":' * 200_000,
    "indented": "".join(f"{' ' * n}a:\n" for n in range(600)),
    "deep late": "a: [" + "1,\n" * 100_000 + "[" * 100_000,
    "aliases": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)),
    "circle": "a: &a [*a]",
    "merge": "a: &a {<<: *a}",
    "tag": "a: !!python/object/apply:os.system [true]",
    "number": "a: !!int x",
    "time": "a: !!timestamp x",
    "control": "a: \x01",
    "keys": "? [a]\n: b",
}


@pytest.mark.parametrize("name", MONSTERS)
def test_monsters_are_refused(name: str) -> None:
    with pytest.raises(BadText):
        Text(MONSTERS[name]).documents()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("executable: x", Kind.SPINOR),
        ('{"executable": "x=y"}', Kind.SPINOR),
        ("# a = b\nexecutable: x", Kind.SPINOR),
        ("[{executable: x}]", Kind.SPINOR),
        ("arguments: [a=b]", Kind.SPINOR),
        ("", Kind.SPINOR),
        ('Executable = "x";', Kind.JDL),
        ('\n# c\n[\n// d\n Executable = "x" ]', Kind.JDL),
        ("'Parameters.a' = {1};", Kind.JDL),
        ("cwlVersion: v1.2\nclass: CommandLineTool", Kind.CWL),
        ('#!/usr/bin/env cwl-runner\n{"class": "CommandLineTool",\n "cwlVersion": "v1.2"}', Kind.CWL),
    ],
)
def test_the_language_is_seen_from_the_content(text: str, kind: Kind) -> None:
    assert kind_of(text, "anything") is kind


def test_jdl_and_cwl_files_become_descriptions(tmp_path: Path) -> None:
    reading_home = "/astro/user/a/ada"
    [jdl] = read(tmp_path, 'Executable = "x"; OutputData = "a"; OutputSE = "S";', "j", home=lambda: reading_home)
    assert jdl.output_data[0].lfn == "/astro/user/a/ada/{job_id}/a"
    (tmp_path / "order.yaml").write_text("{n: 1}\n---\n{n: 2}\n")
    tool = "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: echo\ninputs: {n: {type: int, inputBinding: {}}}\n"
    tools = read(tmp_path, tool + "outputs: {}\n", "t", inputs=str(tmp_path / "order.yaml"), scratch=tmp_path / "s")
    assert [spec.arguments for spec in tools] == [["1"], ["2"]]


def test_on_and_no_are_words(tmp_path: Path) -> None:
    [spec] = read(tmp_path, "executable: x\nsites: [NO]\nnotify: [{on: [failed], email: a@b.org}]\nhold: True\n")
    assert (spec.sites, spec.notify[0].on, spec.hold) == (["NO"], ["failed"], True)


def test_settings_reach_every_field(tmp_path: Path) -> None:
    settings = [("cores", "3"), ("name", "007"), ("retries.site", "5"), ("environment.A", "1"), ("arguments", "[a, 1]")]
    [spec] = read(tmp_path, "executable: x\nretries: {site: 1, memory: 2}\n", settings=settings)
    assert (spec.cores, spec.name, spec.retries.site, spec.retries.memory) == (3, "007", 5, 2)
    assert spec.arguments == ["a", 1]
    with pytest.raises(SpinorError, match="did you mean `cores`"):
        read(tmp_path, "executable: x", settings=[("coers", "3")])
    with pytest.raises(SpinorError, match="has no parts of its own"):
        read(tmp_path, "executable: x", settings=[("executable.a", "3")])


def table(folder: Path, content: str | bytes, name: str = "t.csv") -> dict[str, list[Any]]:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(folder / name)


def test_tables_of_every_kind(tmp_path: Path) -> None:
    assert table(tmp_path, '\ufeffrun,z,t\n1,007,"a, b"\n-2,1.50,\n') == {
        "run": [1, -2], "z": ["007", "1.50"], "t": ["a, b", ""],
    }  # fmt: skip
    assert table(tmp_path, "a\tb\n1\tx\n", "t.tsv") == {"a": [1], "b": ["x"]}
    assert table(tmp_path, '{"a": [1, 2], "b": null}\n\n{"b": 1.5, "a": []}\n', "t.jsonl") == {
        "a": [[1, 2], []], "b": [None, 1.5],
    }  # fmt: skip
    pq.write_table(pa.table({"a": [1, 2], "b": [["x"], []]}), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet") == {"a": [1, 2], "b": [["x"], []]}


@pytest.mark.parametrize(
    ("content", "name", "fragment"),
    [
        ("", "t.csv", "Empty CSV"),
        ("a,b\n", "t.csv", "no row"),
        ("a,a\n1,2\n", "t.csv", "two columns are called 'a'"),
        ("a,b\n1,2\n3\n", "t.csv", "Row #3"),
        (b"a\n\xff\n", "t.csv", "invalid UTF8"),
        ('{"a": 1}\n{"b": 1}\n', "t.jsonl", "line 2 has no 'a'"),
        ('{"a": 1}\n[1]\n', "t.jsonl", "line 2 is not a JSON object"),
        ("PAR1", "t.parquet", "not Parquet"),
        ("a", "t.txt", "ends in .csv"),
    ],
)
def test_a_bad_table_is_explained(tmp_path: Path, content: str | bytes, name: str, fragment: str) -> None:
    with pytest.raises(BadTable) as caught:
        table(tmp_path, content, name)
    assert fragment in caught.value.message


def test_a_table_gives_a_description_its_jobs(tmp_path: Path) -> None:
    table(tmp_path, "run\n1\n2\n")
    text = "executable: x\narguments: ['{run}', '{b}']\nparameters: {b: [u, v]}\n"
    [spec] = read(tmp_path, text, table=str(tmp_path / "t.csv"))
    assert spec.parameters == {"b": ["u", "v"], "run": [1, 2]}
    for more, fragment in (("parameters: {run: [1, 2]}", "rename one"), ("---\nexecutable: y", "one description")):
        with pytest.raises(SpinorError, match=fragment):
            read(tmp_path, f"executable: x\n{more}\n", table=str(tmp_path / "t.csv"))
