"""CWL v1.2 command line tools, by examples written after the standard's rules."""

from pathlib import Path
from typing import Any

import pytest

from spinor.errors import SpinorError
from spinor.jobs.description import normalised
from spinor.jobs.description.cwl import translate
from spinor.jobs.models import JobSpec, OutputData

HEAD = "cwlVersion: v1.2\nclass: CommandLineTool\n"


def spec(folder: Path, tool: str, order: dict[str, Any] | None = None, warnings: int = 0) -> JobSpec:
    found = translate(HEAD + tool, [order or {}], folder, folder, folder / "scratch")
    assert len(found.warnings) == warnings, found.warnings
    [only] = found.specs
    normalised(JobSpec(**{f: getattr(only, f) for f in only.__struct_fields__ if f != "input_sandbox"}))
    return only


def words(folder: Path, tool: str, order: dict[str, Any] | None = None) -> list[str]:
    found = spec(folder, tool + "\noutputs: {}\n", order)
    return [found.executable, *map(str, found.arguments)]


def test_positions_arguments_first_then_names(tmp_path: Path) -> None:
    tool = """
baseCommand: [tool, sub]
arguments: [--zero, {valueFrom: last, position: 9}, {prefix: -p, valueFrom: "1", position: -1}]
inputs:
  b: {type: int, inputBinding: {}}
  a: {type: int, inputBinding: {}}
  c: {type: int, inputBinding: {position: 5, prefix: -c}}
  unbound: string
"""
    order = {"a": 1, "b": 2, "c": 3, "unbound": "x"}
    assert words(tmp_path, tool, order) == ["tool", "sub", "-p", "1", "--zero", "1", "2", "-c", "3", "last"]


def test_kinds_of_values(tmp_path: Path) -> None:
    tool = """
baseCommand: t
inputs:
  a1: {type: boolean, inputBinding: {prefix: -t}}
  a2: {type: boolean, inputBinding: {prefix: -f}}
  a3: {type: "string?", inputBinding: {prefix: --none}}
  a4: {type: float, inputBinding: {prefix: --x=, separate: false}}
  a5: {type: {type: enum, symbols: [p, q]}, inputBinding: {prefix: --enum}}
  a6: {type: [string, int], default: 7, inputBinding: {prefix: --union}}
  a7: {type: Any, inputBinding: {prefix: --any}}
  a8: {type: string, inputBinding: {prefix: --from, valueFrom: "$(self)-$(inputs.a6)"}}
"""
    order = {"a1": True, "a2": False, "a4": 2.5, "a5": "q", "a7": "y", "a8": "z $(inputs.a6)"}
    assert words(tmp_path, tool, order) == [
        "t", "-t", "--x=2.5", "--enum", "q", "--union", "7", "--any", "y", "--from", "z $(inputs.a6)-7",
    ]  # fmt: skip


def test_arrays_of_every_binding(tmp_path: Path) -> None:
    tool = """
baseCommand: t
inputs:
  a: {type: "string[]", inputBinding: {prefix: -A, position: 1}}
  b:
    type: {type: array, items: string, inputBinding: {prefix: -B=, separate: false}}
    inputBinding: {position: 2}
  c: {type: "string[]", inputBinding: {prefix: -C=, itemSeparator: ",", separate: false, position: 4}}
  d: {type: "int[]", inputBinding: {prefix: -D, position: 5}}
  e: {type: {type: array, items: int, inputBinding: {prefix: -E}}, inputBinding: {position: 6, prefix: --all}}
"""
    order = {"a": ["one", "two"], "b": ["four", "five"], "c": ["seven", "eight"], "d": [], "e": [1, 2]}
    assert words(tmp_path, tool, order) == [
        "t", "-A", "one", "two", "-B=four", "-B=five", "-C=seven,eight", "--all", "-E", "1", "-E", "2",
    ]  # fmt: skip


def test_records(tmp_path: Path) -> None:
    tool = """
baseCommand: t
inputs:
  r:
    type:
      type: record
      fields:
        - {name: x, type: int, inputBinding: {prefix: -x, position: 2}}
        - {name: y, type: "string?", inputBinding: {prefix: -y}}
  s: {type: int, inputBinding: {position: 1}}
"""
    assert words(tmp_path, tool, {"r": {"x": 1, "y": "z"}, "s": 5}) == ["t", "-y", "z", "5", "-x", "1"]


def test_files_of_this_machine_and_of_the_catalog(tmp_path: Path) -> None:
    for name in ("a.bam", "a.bam.bai", "a.txt", "run.sh"):
        (tmp_path / name).write_text("content")
    tool = """
inputs:
  script: {type: File, default: {class: File, location: run.sh}, inputBinding: {position: -1}}
  bam: {type: File, secondaryFiles: [.bai, ^.txt, {pattern: .gone, required: false}], inputBinding: {}}
  far: {type: "File[]", inputBinding: {itemSeparator: ","}}
  given: {type: File, inputBinding: {valueFrom: "$(self.nameroot)$(self.nameext)=$(self.size)"}}
outputs:
  o: {type: "File[]", outputBinding: {glob: ["$(inputs.bam.nameroot).out", "*.x"]}, secondaryFiles: [.idx, ^.log]}
"""
    order = {
        "bam": {"class": "File", "location": "a.bam"},
        "far": [{"class": "File", "location": f"lfn:/vo/d/{n}.root"} for n in (1, 2)],
        "given": {"class": "File", "contents": "abc", "basename": "g.conf"},
    }
    found = spec(tmp_path, tool, order)
    assert (found.executable, found.arguments) == ("./run.sh", ["a.bam", "1.root,2.root", "g.conf=3"])
    assert [Path(path).name for path in found.input_sandbox] == ["run.sh", "a.bam", "a.bam.bai", "a.txt", "g.conf"]
    assert Path(found.input_sandbox[-1]).read_text() == "abc"
    assert found.input_data == ["/vo/d/1.root", "/vo/d/2.root"]
    assert found.output_sandbox == ["a.out", "*.x", "a.out.idx", "*.x.idx", "a.log", "*.log"]


def test_a_file_with_another_name_is_copied(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    tool = "baseCommand: t\ninputs: {f: {type: File, inputBinding: {}}}\noutputs: {}\n"
    found = spec(tmp_path, tool, {"f": {"class": "File", "location": "a", "basename": "b"}})
    assert (found.arguments, Path(found.input_sandbox[0]).name) == (["b"], "b")


def test_requirements(tmp_path: Path) -> None:
    tool = """
baseCommand: t
arguments: [$(runtime.cores), $(runtime.ram), $(runtime.outdir)]
$namespaces: {cwltool: "http://commonwl.org/cwltool#"}
hints:
  cwltool:CUDARequirement: {cudaDeviceCountMin: 2}
  SoftwareRequirement: {packages: {x: {}}}
requirements:
  InlineJavascriptRequirement: {}
  DockerRequirement: {dockerPull: "debian:stable"}
  ResourceRequirement: {coresMin: 1.5, coresMax: 4, ramMin: 2000, tmpdirMin: 1000, outdirMin: $(inputs.n)}
  EnvVarRequirement: {envDef: {A: "$(inputs.n){x}"}}
  ToolTimeLimit: {timelimit: 90}
  NetworkAccess: {networkAccess: true}
  InitialWorkDirRequirement:
    listing:
      - {entryname: "conf/a.ini", entry: "n = $(inputs.n)\\n"}
inputs: {n: {type: int, default: 5}}
outputs: {}
"""
    found = spec(tmp_path, tool, warnings=1)
    assert (found.cores, found.max_cores, found.gpus, found.wall_s) == (2, 4, 2, 90)
    assert (found.memory_bytes, found.disk_bytes) == (2000 * 2**20, 1005 * 2**20)
    assert (found.container_image, found.environment) == ("docker://debian:stable", {"A": "5{{x}}"})
    assert found.arguments == ["2", "2000", "."]
    assert (Path(found.input_sandbox[0]) / "a.ini").read_text() == "n = 5\n"


def test_streams(tmp_path: Path) -> None:
    tool = "baseCommand: cat\nstdin: $(inputs.f.path)\nstdout: $(inputs.f.nameroot).out\ninputs: {f: File}\n"
    (tmp_path / "a.txt").write_text("x")
    found = spec(tmp_path, tool + "outputs: {o: stdout, e: stderr}\n", {"f": {"class": "File", "path": "a.txt"}})
    assert (found.stdout, found.stderr, found.output_sandbox) == ("a.out", "stderr.txt", ["a.out", "stderr.txt"])
    assert (found.executable, found.arguments[2:]) == ("/bin/sh", ["sh", "a.txt", "cat"])


def test_shell_commands(tmp_path: Path) -> None:
    tool = """
requirements: {ShellCommandRequirement: {}}
arguments: [ls, {valueFrom: "*.x", shellQuote: false}, {valueFrom: "|", shellQuote: false}, wc, "a b", "*"]
inputs: {}
"""
    assert words(tmp_path, tool) == ["/bin/sh", "-c", "ls *.x | wc 'a b' '*'"]


def test_spinors_own_hint(tmp_path: Path) -> None:
    tool = """
baseCommand: t
$namespaces: {spinor: "https://example.org/spinor#"}
hints:
  - {class: spinor:Job, sites: [A], memory_bytes: 3GB, outputs: {o: {lfn: "/vo/$(inputs.x).txt", se: S}}}
inputs: {x: string}
outputs: {o: {type: File, outputBinding: {glob: o.txt}}, p: {type: File, outputBinding: {glob: p.txt}}}
"""
    found = spec(tmp_path, tool, {"x": "{a}"})
    assert (found.sites, found.memory_bytes, found.output_sandbox) == (["A"], "3GB", ["p.txt"])
    assert found.output_data == [OutputData(path="o.txt", lfn="/vo/{{a}}.txt", se="S")]


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("baseCommand: x\ninputs: {a: string}\noutputs: {}\n", {}, "a: is not given, and has no default; it is string"),
    ("baseCommand: x\ninputs: {a: string}\noutputs: {}\n", {"a": 1}, "a: '1' does not fit; it is string"),
    ("baseCommand: x\ninputs: {a: int}\noutputs: {}\n", {"a": True}, "does not fit"),
    ("baseCommand: x\ninputs: {abc: string}\noutputs: {}\n", {"acb": "1"}, "no input 'acb'; did you mean abc?"),
    ("baseCommand: x\narguments: ['${return 1}']\ninputs: {}\noutputs: {}\n", {},
     "line 4, column 14: ${return 1} is Jav"),
    ("arguments:\n - $(inputs.a + 1)\ninputs: {a: int}\noutputs: {}\n", {"a": 1}, "line 4, column 4: $(inputs.a + 1)"),
    ("baseCommand: x\narguments: [$(inputs.b)]\ninputs: {a: int}\noutputs: {}\n", {"a": 1}, "there is no b"),
    ("baseCommand: x\narguments: [$(job.b)]\ninputs: {}\noutputs: {}\n", {}, "inputs, runtime and self, not job"),
    ("baseCommand: x\ninputs: {}\noutputs: {o: {type: int, outputBinding: {glob: x, outputEval: $(1)}}}\n", {},
     "outputEval"),
    ("baseCommand: x\ninputs: {}\noutputs: {o: int}\n", {}, "output o has no glob"),
    ("requirements: {DockerRequirement: {dockerFile: x}}\ninputs: {}\noutputs: {}\n", {},
     "dockerFile is not understood"),
    ("requirements: {MPIRequirement: {}}\ninputs: {}\noutputs: {}\n", {}, "line 3, column 16: MPIRequirement is not"),
    ("requirements: {InplaceUpdateRequirement: {inplaceUpdate: true}}\nbaseCommand: x\ninputs: {}\noutputs: {}\n", {},
     "InplaceUpdateRequirement is not understood"),
    ("requirements: {ResourceRequirement: {coresMn: 1}}\ninputs: {}\noutputs: {}\n", {}, "did you mean coresMin?"),
    ("requirements: {ResourceRequirement: {coresMin: -1}}\nbaseCommand: x\ninputs: {}\noutputs: {}\n", {},
     "coresMin is -1"),
    ("basCommand: x\ninputs: {}\noutputs: {}\n", {},
     "line 3, column 1: it is not valid CWL: invalid field `basCommand`"),
    ("baseCommand: 3\ninputs: 5\noutputs: x\n", {}, "it is not valid CWL"),
    ("inputs: {}\noutputs: {}\n", {}, "no command"),
    ("baseCommand: x\nsuccessCodes: [0, 1]\ninputs: {}\noutputs: {}\n", {}, "only exit code 0"),
    ("$import: x\n", {}, "$import is not followed"),
    ("baseCommand: x\ninputs: {f: File}\noutputs: {}\n", {"f": {"class": "File", "location": "https://a/b"}},
     "https is not"),
    ("baseCommand: x\ninputs: {f: File}\noutputs: {}\n", {"f": {"class": "File", "location": "absent"}}, "no file"),
    ("baseCommand: x\ninputs: {f: File}\noutputs: {}\n", {"f": {"class": "File"}}, "needs location, path or contents"),
    ("baseCommand: x\ninputs: {f: 'File[]'}\noutputs: {}\n",
     {"f": [{"class": "File", "location": f"lfn:/v/{d}/a"} for d in "xy"]}, "Two files would both be 'a'"),
    ("baseCommand: x\ninputs: {f: Directory}\noutputs: {}\n", {"f": {"class": "Directory", "location": "lfn:/v/d"}},
     "directory of the catalog"),
    ("a: [", {}, "line 4, column 1"),
    ("a: " + "[" * 1000, {}, "nested more than"),
]  # fmt: skip


@pytest.mark.parametrize(("tool", "order", "fragment"), FAULTS, ids=[fragment for _, _, fragment in FAULTS])
def test_a_fault_is_placed_and_explained(tmp_path: Path, tool: str, order: dict[str, Any], fragment: str) -> None:
    with pytest.raises(SpinorError) as caught:
        spec(tmp_path, tool, order)
    assert fragment in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("tool", "fragment"),
    [
        ("cwlVersion: v1.0\nclass: CommandLineTool\n", "cwlVersion is 'v1.0', not v1.2"),
        ("cwlVersion: v1.2\nclass: Workflow\n", "submit the tools of a workflow one by one"),
        ("cwlVersion: v1.2\n$graph: []\n", "class is None"),
        ("- a\n", "not one CWL document"),
    ],
)
def test_what_is_no_tool_is_refused(tool: str, fragment: str) -> None:
    with pytest.raises(SpinorError) as caught:
        translate(tool)
    assert fragment in caught.value.message


def test_nothing_outside_the_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.yml").write_text("type: string\n")
    with pytest.raises(SpinorError):
        spec(tmp_path, "baseCommand: x\ninputs: {a: t.yml#x}\noutputs: {}\n", {"a": "x"})
