"""Description files and packed sandboxes, as the command line reads them."""

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from spinor.errors import SpinorError
from spinor.jobs.cli.descriptions import documents, read_descriptions
from spinor.jobs.cli.packing import with_sandboxes
from spinor.jobs.description import normalised, size_of
from spinor.jobs.models import JobSpec, SandboxRef

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "job-description.md"


def read(folder: Path, text: str, **changes: Any) -> list[JobSpec]:
    (folder / "job.yaml").write_text(text)
    return [spec for spec, _ in read_descriptions(documents([str(folder / "job.yaml")]), changes)]


def test_the_example_of_the_reference_page_is_understood(tmp_path: Path) -> None:
    [spec] = read(tmp_path, PAGE.read_text().split("```yaml\n")[1].split("```")[0])
    assert (
        size_of(normalised(JobSpec(**{f: getattr(spec, f) for f in spec.__struct_fields__ if f != "input_sandbox"})))
        == 3
    )
    for field in JobSpec.__struct_fields__:
        assert f"`{field}`" in PAGE.read_text()


def test_yaml_json_and_several_documents(tmp_path: Path) -> None:
    assert [spec.name for spec in read(tmp_path, "executable: a\nname: x\n---\nexecutable: b\nname: y\n")] == ["x", "y"]
    assert read(tmp_path, '{"executable": "a", "arguments": ["1", 2, true]}')[0].arguments == ["1", 2, True]
    assert read(tmp_path, "{executable: a, arguments: [2024-01-02]}")[0].arguments == ["2024-01-02"]
    assert read(tmp_path, "{executable: a, site: A, cores: 1}", cores=2, sites=["B"])[0] == JobSpec(
        executable="a", cores=2, sites=["B"]
    )


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("{", "line 2, column 1: it is not YAML or JSON"),
        ("executable: [", "line"),
        ("- a", "it is a single value"),
        ("- [a]", "it is a list"),
        ("text", "it is a single value"),
        ("", "no job description"),
        ("arguments: [a]", "missing required field `executable`"),
        ("executable: 5", "executable: Expected `str`"),
        ("{executable: x, coers: 2}", "did you mean `cores`?"),
        ("{executable: x, memory: 2GB}", "did you mean `memory_bytes`?"),
        ("{executable: x, cores: 0}", "cores: Expected `int` >= 1"),
        ("{executable: x, output_data: [{path: a, lfn: b}]}", "line 1, column 31: output_data[0].se: is needed"),
        ("executable: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_a_bad_file_is_explained(tmp_path: Path, text: str, fragment: str) -> None:
    with pytest.raises(SpinorError) as caught:
        read(tmp_path, text)
    assert fragment in caught.value.message
    assert caught.value.exit_code == 2


def test_an_absent_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(SpinorError, match="goes after `--`") as caught:
        list(documents([str(tmp_path / "absent")]))
    assert caught.value.exit_code == 3


class Uploads:
    """Takes the place of the client: keeps what is sent."""

    def __init__(self) -> None:
        self.archives: list[bytes] = []

    def put(self, _: str, body: bytes, __: type) -> SandboxRef:
        self.archives.append(body)
        return SandboxRef(sandbox_id=len(self.archives), sha256="", size_bytes=len(body))


def pack(folder: Path, *paths: str, times: int = 1) -> tuple[list[JobSpec], list[bytes]]:
    uploads = Uploads()
    specs = with_sandboxes(uploads, [(JobSpec(executable="x", input_sandbox=list(paths)), folder)] * times)  # type: ignore[arg-type]
    return specs, uploads.archives


def test_equal_contents_make_equal_archives(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "lib").mkdir(parents=True)
        (folder / "run.sh").write_text("#!/bin/sh\n")
        (folder / "run.sh").chmod(0o700)
        (folder / "lib" / "a").write_text("a")
        os.link(folder / "lib" / "a", folder / "lib" / "b")
        os.utime(folder / "run.sh", (len(name), 1 if name == "one" else 2))
    (specs, [first]), (_, [second]) = (pack(tmp_path / name, "run.sh", "lib", times=3) for name in ("one", "two"))
    assert first == second
    assert [spec.input_sandboxes for spec in specs] == [[1]] * 3
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert tar.getnames() == ["run.sh", "lib", "lib/a", "lib/b"]
        assert tar.getmember("run.sh").mode == 0o755
        content = tar.extractfile("lib/b")
        assert content is not None
        assert content.read() == b"a"


def test_nothing_is_sent_when_a_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SpinorError, match="no file") as caught:
        pack(tmp_path, "absent")
    assert caught.value.exit_code == 3


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.py").write_text(name)
    with pytest.raises(SpinorError, match="rename one"):
        pack(tmp_path, "a/run.py", "b/run.py")
