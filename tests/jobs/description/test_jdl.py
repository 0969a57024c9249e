"""JDL: every attribute, parametric jobs, and what is wrong where."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from spinor.errors import SpinorError
from spinor.jobs.description import expanded, normalised, size_of, values_of
from spinor.jobs.description.jdl import BadJDL, translate
from spinor.jobs.description.jdl.words import DROPPED, REFUSED, WORDS
from spinor.jobs.models import JobSpec, OutputData

HOME = "/astro/user/a/ada"


def spec(text: str, warnings: int | None = None) -> JobSpec:
    found = translate(f'Executable = "x"; {text}', HOME)
    if warnings is not None:
        assert len(found.warnings) == warnings, found.warnings
    return found.specs[0]


def job(text: str, index: int) -> JobSpec:
    """One job of a parametric JDL, as it would run."""
    whole = normalised(spec(text))
    return expanded(whole, {**values_of(whole, index), "index": index, "job_id": 70 + index, "array_id": 7})


def refused(text: str) -> str:
    with pytest.raises(BadJDL) as caught:
        translate(text, HOME)
    return caught.value.message


FIELDS: list[tuple[str, dict[str, Any], int]] = [
    ("", {"stdout": "std.out", "stderr": "std.err", "wall_s": 17_280, "cpu_work_hs23_s": None}, 0),
    (
        """Arguments = "-a 'b c' \\"d\\" e";""",
        {"arguments": ["-a", "b c", "d", "e"]},
        0,
    ),
    ('Arguments = {"-a", "b"};', {"arguments": ["-a", "b"]}, 0),
    ('Arguments = "$HOME > out";', {"executable": "/bin/sh", "arguments": ["-c", "x $HOME > out"]}, 1),
    ("""Arguments = "'$HOME' \\\\* {a}";""", {"executable": "x", "arguments": ["$HOME", "*", "{{a}}"]}, 0),
    ('JobName = "n"; JobGroup = "g"; JobType = "User";', {"name": "n", "job_group": "g", "job_type": "user"}, 0),
    ('JobType = "Simulation";', {"job_type": "Simulation"}, 0),
    ('StdOutput = "o"; StdError = "e";', {"stdout": "o", "stderr": "e"}, 0),
    (
        'InputSandbox = {"x", "conf/", "LFN:/astro/a"};',
        {"executable": "./x", "input_sandbox": ["x", "conf/"], "input_data": ["/astro/a"]},
        0,
    ),
    ('OutputSandbox = "std.out, std.err";', {"output_sandbox": ["std.out", "std.err"]}, 0),
    ('InputData = {"LFN:/astro/a", "/astro/b"};', {"input_data": ["/astro/a", "/astro/b"]}, 0),
    ('InputDataPolicy = "DIRAC.WorkloadManagementSystem.Client.InputDataByProtocol";', {"input_policy": "protocol"}, 0),
    ('InputDataPolicy = "Download";', {"input_policy": "download"}, 0),
    ('InputDataModule = "X"; SoftwareDistModule = "Y"; LogLevel = "DEBUG"; JobConfigArgs = "z";', {}, 4),
    (
        'OutputData = {"LFN:/astro/a.root", "b.root", "*.log"}; OutputSE = {"A", "B"}; OutputPath = "run1";',
        {
            "output_data": [
                OutputData(path="a.root", lfn="/astro/a.root", se="A", failover=["B"]),
                OutputData(path="b.root", lfn=f"{HOME}/run1/b.root", se="A", failover=["B"]),
                OutputData(path="*.log", lfn=f"{HOME}/run1/", se="A", failover=["B"]),
            ]
        },
        0,
    ),
    (
        'OutputData = "b.root"; OutputSE = "A";',
        {"output_data": [OutputData(path="b.root", lfn=f"{HOME}/{{job_id}}/b.root", se="A")]},
        0,
    ),
    ('OutputSE = "A";', {"output_data": []}, 1),
    ('Site = {"A", "B", "C"}; BannedSites = "B, D";', {"sites": ["A", "C"], "banned_sites": []}, 0),
    ('Site = "ANY"; BannedSites = {"B"};', {"sites": [], "banned_sites": ["B"]}, 0),
    ('Sites = "A"; GridCE = "ce";', {"sites": ["A"], "computing_elements": ["ce"]}, 0),
    ('GridRequiredCEs = "ce";', {"computing_elements": ["ce"]}, 1),
    ('Platform = "x86_64";', {"platform": "x86_64"}, 0),
    ('Platform = "Linux_AMD64_glibc-2.34";', {"platform": "x86_64"}, 1),
    ('SystemConfig = "ANY";', {"platform": ""}, 1),
    ("CPUTime = 1001;", {"cpu_work_hs23_s": 1001.0, "wall_s": 201}, 1),
    ('MaxCPUTime = "86400";', {"cpu_work_hs23_s": 86_400.0, "wall_s": 17_280}, 2),
    ("Priority = 0;", {"priority": 2}, 0),
    ("Priority = 1;", {"priority": 5}, 0),
    ("Priority = 10;", {"priority": 9}, 0),
    ("NumberOfProcessors = 4;", {"cores": 4, "max_cores": 4}, 0),
    ("MinNumberOfProcessors = 2;", {"cores": 2, "max_cores": 1024}, 0),
    ("MinNumberOfProcessors = 2; MaxNumberOfProcessors = 8;", {"cores": 2, "max_cores": 8}, 0),
    ("WholeNode = true; NumberOfProcessors = 4;", {"whole_node": True, "cores": 4, "max_cores": None}, 0),
    ('WholeNode = "no";', {"whole_node": False}, 0),
    ("MinRAM = 2000;", {"memory_bytes": 2_000_000_000}, 0),
    ("MinRAM = 2000; MaxRAM = 4000;", {"memory_bytes": 4_000_000_000}, 1),
    (
        'Tags = {"GPU", "bigmem", "8Processors", "MultiProcessor"};',
        {"gpus": 1, "tags": ["bigmem"], "cores": 8, "max_cores": 8},
        2,
    ),
    ('Tag = "WholeNode";', {"whole_node": True, "tags": []}, 0),
    ('ExecutionEnvironment = "A=1;B=x%20y=z;";', {"environment": {"A": "1", "B": "x y=z"}}, 0),
    ('ExecutionEnvironment = {"A=1", "B={C}"};', {"environment": {"A": "1", "B": "{{C}}"}}, 0),
    ('StopSigRegex = "x"; StopSigFinishWork = 100; StopSigStartWork = 50;',
     {"stop_signal": "SIGINT", "stop_margin_s": 20}, 3),
    ("StopSigNumber = 15;", {"stop_signal": "SIGTERM"}, 0),
    ('Owner = "a"; OwnerDN = "b"; OwnerGroup = "c"; VirtualOrganization = "d"; DIRACSetup = "e";', {}, 5),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fields", "warnings"), FIELDS, ids=[text[:50] for text, _, _ in FIELDS])
def test_every_attribute_has_its_field(text: str, fields: dict[str, Any], warnings: int) -> None:
    found = spec(text, warnings)
    assert {name: getattr(found, name) for name in fields} == fields
    normalised(JobSpec(**{f: getattr(found, f) for f in found.__struct_fields__ if f != "input_sandbox"}))


def test_every_known_attribute_is_tried_here() -> None:
    tried = (
        " ".join(text for text, _, _ in FIELDS) + " Executable Parameters. ParameterStart ParameterStep ParameterFactor"
    )
    for name in WORDS:
        assert name.partition(".")[0] in tried or name in REFUSED, name
    assert DROPPED.keys() <= WORDS.keys()


def test_parametric_jobs_are_one_array() -> None:
    text = """
        Parameters = {"LFN:/astro/a", "LFN:/astro/b"}; Parameters.energy = {1, 2.5};
        Arguments = "%s %n %(energy)s"; InputData = {%s, "/astro/common"}; JobName = "run_%n";
        StdOutput = "out_%n.txt"; OutputData = "LFN:/astro/out/%(energy)s_%n.root"; OutputSE = "A";
        ExecutionEnvironment = "E=%(energy)s";"""
    second = job(text, 1)
    assert size_of(spec(text)) == 2
    assert second.arguments == ["LFN:/astro/b", "1", "2.5"]
    assert second.input_data == ["/astro/b", "/astro/common"]
    assert (second.name, second.stdout, second.environment) == ("run", "out_1.txt", {"E": "2.5"})
    assert (second.output_data[0].path, second.output_data[0].lfn) == ("2.5_1.root", "/astro/out/2.5_1.root")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Parameters = 3;", [1, 1, 1]),
        ("Parameters = 4; ParameterStart = 1; ParameterStep = 2; ParameterFactor = 3;", [1, 5, 17, 53]),
        ('Parameters = 3; ParameterStart = "0.5"; ParameterFactor = 2;', [0.5, 1.0, 2.0]),
        ("Parameters = 3; ParameterStart = 1; ParameterStep = 0.5;", [1.0, 1.5, 2.0]),
        ('Parameters = {"a", 2, true, {"x", "y"}};', ["a", 2, True, ["x", "y"]]),
    ],
)
def test_sequences_are_those_of_dirac(text: str, values: list[Any]) -> None:
    assert spec(f'{text} Arguments = "%s";').parameters == {"parameter": values}


def test_the_number_has_leading_zeros_and_lists_become_arguments() -> None:
    text = 'Parameters = 11; Arguments = "%n"; InputData = {"/astro/x"};'
    assert [job(text, n).arguments for n in (0, 10)] == [["00"], ["10"]]
    lists = 'Parameters = {{"LFN:/astro/a", "LFN:/astro/b"}, {}}; InputData = {%s}; Arguments = "%s";'
    assert job(lists, 0).input_data == ["/astro/a", "/astro/b"]
    assert (job(lists, 1).input_data, job(lists, 1).arguments) == ([], [])


def test_percent_signs_are_text_without_parameters() -> None:
    assert spec('Arguments = "+%s %n 100%";').arguments == ["+%s", "%n", "100%"]
    # And so is %s where only named sequences are.
    assert job('Parameters.a = {1, 2}; Arguments = "+%s %(a)s";', 1).arguments == ["+%s", "2"]


def test_names_of_built_ins_are_given_way_to() -> None:
    text = 'Parameters.index = {"a", "b"}; Parameters.number = {"c", "d"}; Arguments = "%(index)s%(number)s%n";'
    assert job(text, 1).arguments == ["bd1"]


def test_brackets_comments_and_case_do_not_matter() -> None:
    text = '/* a */ [ # b\n executable = "x"; // c\n ARGUMENTS = "y"; ]'
    assert translate(text).specs[0].arguments == ["y"]


FAULTS: list[tuple[str, str]] = [
    ('[ Executable = "x"', "line 1, column 1: the [ that opens here is never closed"),
    ('Executable = "x";\n Site = {"a", "b";', "line 2, column 9: the { that opens here is never closed"),
    ('Executable = "x"; Site = {"a"];', "line 1, column 30: ] cannot close the { of line 1, column 26"),
    ('Executable = "x"}', "line 1, column 17: this } closes nothing"),
    ('Executable = "x;\nSite = 1;', 'line 1, column 14: the quote " that opens here is never closed'),
    ('Executable = "x"; /* a', "line 1, column 19: the comment that opens here is never closed"),
    ('Executable = "x"\nSite = "y";', "line 2, column 1: a semicolon is missing before 'Site'"),
    ('Executable = "x" "y";', "line 1, column 18: a comma is missing before '\"y\"'"),
    ('Executable = "x"; Site = {"a",};', "line 1, column 31: a value is missing before }"),
    ("Executable = ;", "line 1, column 1: Executable has no value"),
    ("Executable", "line 1, column 1: `=` is missing after 'Executable'"),
    ('5 = "x";', "line 1, column 1: an attribute's name is wanted here, not '5'"),
    ('Executable = "x"; executable = "y";', "line 1, column 19: executable is given a second time"),
    ('[Executable = "x";] [', "line 1, column 21: the [ that opens here is never closed"),
    ('[Executable = "x";] y', "line 1, column 21: nothing may follow the closing ]"),
    ('Exectuable = "x";', "line 1, column 1: there is no attribute Exectuable; did you mean Executable?"),
    ('Executable = "x";\n  Zzz = 1;', "line 2, column 3: there is no attribute Zzz; see docs/reference/jdl.md"),
    ('Executable = "x"; Requirements = other.A > 1;', "line 1, column 19: Requirements: requirements are not an expr"),
    ('Executable = "x"; JobPath = "a";', "line 1, column 19: JobPath: Spinor has no chain of optimizers"),
    ('Executable = strcat("a", "b");', "line 1, column 1: Executable is an expression"),
    ('Executable = "x"; CPUTime = 99999999999999999999;', "line 1, column 29: '99999999999999999999' is too large"),
    ('Executable = "x"; CPUTime = "soon";', "CPUTime: 'soon' is not a whole number"),
    ('Executable = "x"; WholeNode = "maybe";', "WholeNode: 'maybe' is neither yes nor no"),
    ('Executable = "x"; JobGroup = {"a"};', "JobGroup: is a list"),
    ('Executable = "x"; Site = {{"a"}};', "Site: has a list in its list"),
    ('Executable = "x"; Site = "A"; BannedSites = "A";', "BannedSites: bans every site"),
    ('Executable = "x"; Site = "A"; Sites = "A";', "Sites: says the same as Site"),
    ('Executable = "x"; InputSandbox = "SB:A|/b";', "InputSandbox: 'SB:A|/b' lies in DIRAC's store"),
    ('Executable = "x"; InputData = "a";', "InputData: 'a' is no LFN"),
    ('Executable = "x"; InputDataPolicy = "guess";', "InputDataPolicy: 'guess' is not known"),
    ('Executable = "x"; OutputData = "a";', "OutputData: needs OutputSE"),
    ('Executable = "x"; Platform = "win";', "Platform: 'win' names no machine"),
    ('Executable = "x"; Arguments = "a\'b";', "Arguments: a quote in"),
    ('Executable = "x"; ExecutionEnvironment = "A";', "ExecutionEnvironment: 'A' is not of the form"),
    ('Executable = "x"; StopSigNumber = 9;', "StopSigNumber: 9 is not a signal"),
    ('Executable = "x"; MinNumberOfProcessors = 4; MaxNumberOfProcessors = 2;', "MaxNumberOfProcessors: is 2, less"),
    ('Executable = "x"; ParameterStart = 1;', "ParameterStart needs `Parameters`"),
    ('Executable = "x"; Parameters = 0;', "Parameters makes 0 jobs"),
    ('Executable = "x"; Parameters = 100000000;', "Parameters makes 100,000,000 jobs"),
    ('Executable = "x"; Parameters = "a";', "Parameters must be a number of jobs, or a list"),
    ('Executable = "x"; Parameters = 2; Parameters.a = {1};', "Parameters.a makes 1 jobs where Parameters makes 2"),
    ('Executable = "x"; Parameters.a = 2;', "Parameters.a must be a list"),
    (
        'Executable = "x"; Parameters = 9; ParameterFactor = 1e200;',
        "grows beyond every number",
    ),
    ('Executable = "%(eneryg)s"; Parameters.energy = {1};', "did you mean %(energy)s?"),
    ('Executable = "x"; Arguments = "${%s}"; Parameters = 2;', "stands right after $ or in braces"),
    ('Executable = "x"; Site = "%s"; Parameters = {"a"};', "Site: '%s' would differ from job to job"),
    ('Executable = "a\\0b";', "line 1, column 14: there is a NUL character"),
    ('Executable = "\x01";', "line 1, column 15: there is a control character (U+0001)"),
    ('Executable = "\\377";', "line 1, column 1: the value of Executable is not one"),
    ("", "There is no Executable"),
]


@pytest.mark.parametrize(("text", "fragment"), FAULTS, ids=[text[:40] for text, _ in FAULTS])
def test_a_fault_is_placed_and_explained(text: str, fragment: str) -> None:
    assert fragment in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        'Executable = "x"; ExecutionEnvironment = "' + "A=1;" * 2_600_000 + '";',
        'Executable = "x"; Arguments = ' + "{" * 100_000,
        "[" * 1_000_000,
        '"' * 1_000_001,
        'Executable = "x"; Arguments = "' + "\\" * 100_001,
        "Executable = " + "-" * 500_000 + "1;",
        "/*" * 500_000,
        "a" * 65 * 1024 * 1024,
        'Executable = "x";' + "".join(f"A{n} = 1;" for n in range(5_000)),
    ],
    ids=["environment", "braces", "brackets", "quotes", "backslashes", "signs", "comments", "length", "attributes"],
)
def test_monsters_are_refused(text: str) -> None:
    with pytest.raises(SpinorError):
        translate(text)


def test_a_million_parameters() -> None:
    values = ",".join(f'"v{n}"' for n in range(1_000_000))
    found = spec(f'Parameters = {{{values}}}; Arguments = "%s";')
    assert found.parameters["parameter"][-1] == "v999999"
    assert size_of(normalised(found)) == 1_000_000


def test_the_reference_page_is_this_table_and_its_example_is_understood() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "jdl.md").read_text()
    for name, (field, how) in WORDS.items():
        assert f"| `{name}` | {field or '–'} | {how} |" in page  # noqa: RUF001
    example = page.split("```\n")[1]
    [found] = translate(example).specs
    assert size_of(normalised(msgspec.structs.replace(found, input_sandbox=[]))) == 3
