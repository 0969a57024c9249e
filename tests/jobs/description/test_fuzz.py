"""Whatever is read, the answer is a description or a sentence: no other error, no hang, no end of the process."""

import contextlib
import string
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spinor.errors import SpinorError
from spinor.jobs.description import expanded, normalised, size_of, values_of
from spinor.jobs.description.cwl import translate as translate_cwl
from spinor.jobs.description.documents import Text
from spinor.jobs.description.jdl import translate
from spinor.jobs.description.jdl.words import WORDS
from spinor.jobs.description.kinds import kind_of
from spinor.jobs.description.structs import FIELDS, spec_of
from spinor.jobs.models import JobSpec

TEXT = st.text(max_size=40)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(TEXT, v, max_size=4), max_leaves=12)
NAMES = st.sampled_from(sorted(FIELDS)) | TEXT
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=8).map(lambda fields: {"executable": "x", **fields})


def said(error: SpinorError) -> None:
    assert error.message
    assert error.exit_code in (1, 2)


@given(DOCUMENTS)
@settings(deadline=None, max_examples=300)
def test_documents(document: dict[str, Any]) -> None:
    try:
        spec = spec_of(document, {})
    except SpinorError as error:
        said(error)
        return
    plain = normalised(JobSpec(**{f: getattr(spec, f) for f in spec.__struct_fields__ if f != "input_sandbox"}))
    assert normalised(plain) == plain
    expanded(plain, {**(values_of(plain, 0) if size_of(plain) else {}), "index": 0, "job_id": 1, "array_id": 1})


YAML = st.text(alphabet="abx:-[]{},&*!|>'\"#%@ \n\t?=0.", max_size=80)


@given(YAML | TEXT | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
@settings(deadline=None, max_examples=500)
def test_yaml(text: str) -> None:
    kind_of(text)
    try:
        documents = Text(text).documents()
    except SpinorError as error:
        said(error)
        return
    for n, document in enumerate(documents):
        with contextlib.suppress(SpinorError):
            spec_of(document, {})
        Text(text).place_of_field(n, "output_data[0].lfn")


JDL_TOKENS = st.sampled_from(
    [*(name.replace("<name>", "a") for name in WORDS), *"[]{}()=;,\"'%\\/*#\n .", '"x"', '"a b"', "{1, 2}", "= 3;",
     "%s", "%(a)s", "%n", "true", "1e9", '\\"', "//", "/*", "*/", "LFN:/v/a", "= {\"a\"};", "= \"b\";"]
)  # fmt: skip
JDL = st.lists(JDL_TOKENS | st.text(alphabet=string.printable, max_size=5), max_size=30).map(" ".join)
ATTRIBUTES = st.lists(
    st.tuples(
        st.sampled_from([name.replace("<name>", "a") for name in WORDS]),
        st.sampled_from(
            ['"x"', '"a b"', "{1, 2}", "3", "%s", '{"%s", "%n"}', '"LFN:/v/a%(a)s"', "true", "{}", '"A=1"']
        ),
    ),
    max_size=8,
    unique_by=lambda pair: pair[0],
).map(
    lambda pairs: 'Executable = "x";' + "".join(f"{name} = {value};\n" for name, value in pairs if name != "Executable")
)


@given(JDL | ATTRIBUTES | TEXT)
@settings(deadline=None, max_examples=600)
def test_jdl(text: str) -> None:
    try:
        [spec] = translate(text, "/v/user/a/ada").specs
    except SpinorError as error:
        said(error)
        return
    plain = JobSpec(**{f: getattr(spec, f) for f in spec.__struct_fields__ if f != "input_sandbox"})
    try:
        plain = normalised(plain)
    except SpinorError as error:
        said(error)
        return
    expanded(plain, {**values_of(plain, 0), "index": 0, "job_id": 1, "array_id": 1})


@given(st.text(max_size=60))
@settings(deadline=None)
def test_any_text_in_quotes_comes_back(text: str) -> None:
    """A quote or a backslash anywhere, escaped as ClassAds have it."""
    if any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in text):
        return
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    [spec] = translate(f'Executable = "x"; JobGroup = "{quoted}";').specs
    assert spec.job_group == text.strip()


TOOL = """cwlVersion: v1.2
class: CommandLineTool
baseCommand: {base}
arguments: {arguments}
requirements: {requirements}
inputs: {inputs}
outputs: {outputs}
"""
CWL_VALUES = st.sampled_from(
    ["x", "[x]", "{}", "[]", "3", "null", "$(inputs.a)", "[$(inputs.a)]", "'${x}'", "{a: string}",
     "{a: {type: int, default: 3}}",
     "{a: {type: File, inputBinding: {prefix: -a}}}", "{o: stdout}", "{o: {type: File, outputBinding: {glob: '*'}}}",
     "{ResourceRequirement: {coresMin: 2}}", "[{class: ShellCommandRequirement}]", "{a: [", "{a: &x [*x]}", "'$(self'",
     "{a: {type: {type: array, items: [int, 'null']}, inputBinding: {}}}", "{DockerRequirement: 3}", "[[[]]]"]
)  # fmt: skip


@given(CWL_VALUES, CWL_VALUES, CWL_VALUES, CWL_VALUES, CWL_VALUES, st.dictionaries(st.sampled_from("ab"), VALUES))
@settings(deadline=None, max_examples=250)
def test_cwl(base: str, arguments: str, needs: str, inputs: str, outputs: str, order: dict[str, Any]) -> None:
    tool = TOOL.format(base=base, arguments=arguments, requirements=needs, inputs=inputs, outputs=outputs)
    try:
        translate_cwl(tool, [order], Path("/nonexistent"))
    except SpinorError as error:
        said(error)
