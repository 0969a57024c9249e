"""Pure checks of descriptions, table-driven: each fault names its field and the remedy."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.jobs.description import (
    BadDescription,
    duration_s,
    expanded,
    fill,
    normalised,
    size_bytes,
    size_of,
    values_of,
)
from spinor.jobs.models import JobSpec, OutputData

FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"executable": " "}, "executable", "empty"),
    ({"executable": "a\nb"}, "executable", "U+000A"),
    ({"name": "x" * 256}, "name", "255"),
    ({"name": "tab\there"}, "name", "U+0009"),
    ({"arguments": ["a\0b"]}, "arguments[0]", "NUL"),
    ({"environment": {"1A": "x"}}, "environment.'1A'", "digit"),
    ({"environment": {"A=B": "x"}}, "environment.'A=B'", "letters"),
    ({"environment": {"A": "{nope}"}}, "environment.A", "no parameter"),
    ({"arguments": ["{nmae}"], "parameters": {"name": ["a"]}}, "arguments[0]", "did you mean {name}"),
    ({"parameters": {"a": [1], "b": [1, 2]}}, "parameters.'b'", "one length"),
    ({"parameters": {"a": []}}, "parameters.'a'", "empty"),
    ({"parameters": {"index": [1]}}, "parameters.'index'", "built-in"),
    ({"parameters": {"a b": [1]}}, "parameters.'a b'", "letters"),
    ({"parameters": {"a": [{"k": 1}]}}, "parameters.'a'[0]", "neither"),
    ({"parameters": {"a": ["x\0"]}}, "parameters.'a'[0]", "NUL"),
    ({"arguments": ["x{a}"], "parameters": {"a": [["p", "q"]]}}, "arguments[0]", "whole element"),
    ({"environment": {"A": "{a}"}, "parameters": {"a": [["p"]]}}, "environment.A", "whole element"),
    ({"memory_bytes": "lots"}, "memory_bytes", "2GB"),
    ({"memory_bytes": -1}, "memory_bytes", "0 or more"),
    ({"disk_bytes": "9" * 30}, "disk_bytes", "not a size"),
    ({"wall_s": "soon"}, "wall_s", "90m"),
    ({"wall_s": "-1h"}, "wall_s", "90m"),
    ({"wall_s": 0}, "wall_s", "1 or more"),
    ({"wall_s": "99999w"}, "wall_s", "ten years"),
    ({"sites": [""]}, "sites", "not a name"),
    ({"output_sandbox": ["../x"]}, "output_sandbox[0]", "inside"),
    ({"output_sandbox": ["/etc/passwd"]}, "output_sandbox[0]", "inside"),
    ({"output_data": [OutputData(path="a/../../b", lfn="/v/a", se="s")]}, "output_data[0].path", "inside"),
    ({"input_sandbox": ["x.py"]}, "input_sandbox", "upload"),
]


@pytest.mark.parametrize(("fields", "field", "remedy"), FAULTS, ids=[str(fault[0])[:60] for fault in FAULTS])
def test_a_fault_names_its_field_and_the_remedy(fields: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(BadDescription) as caught:
        normalised(JobSpec(**{"executable": "x", **fields}))
    assert caught.value.facts["field"] == field
    assert caught.value.message.startswith(f"{field}: ")
    assert remedy in caught.value.message


@pytest.mark.parametrize(
    ("text", "count"),
    [("2GB", 2 * 10**9), ("2GiB", 2**31), ("1.5 MB", 1_500_000), ("512", 512), ("10k", 10_000), (7, 7), ("0", 0)],
)
def test_sizes(text: str | int, count: int) -> None:
    assert size_bytes(text, "f") == count


@pytest.mark.parametrize(
    ("text", "count"), [("90m", 5400), ("2h", 7200), ("1h30m", 5400), ("45", 45), (3, 3), ("1d", 86400)]
)
def test_durations(text: str | int, count: int) -> None:
    assert duration_s(text, "f") == count


def test_names_of_any_language_are_kept() -> None:
    assert normalised(JobSpec(executable="x", name="Größe '\"🚀 数")).name == "Größe '\"🚀 数"


def test_each_job_gets_its_values() -> None:
    spec = normalised(
        JobSpec(
            executable="./run-{kind}",
            arguments=["{files}", "--n={n}", "{index}", "{{n}}", "${HOME}", "awk '{print $1}'", "{flag}"],
            environment={"KIND": "{kind}"},
            output_data=[OutputData(path="out", lfn="/v/{kind}/{n}", se="{se}")],
            parameters={
                "kind": ["a", "b"], "n": [1, 2.5], "files": [["x", "y"], []], "se": ["s", "t"], "flag": [True, None],
            },
        )
    )  # fmt: skip
    assert size_of(spec) == 2
    first, second = (expanded(spec, {**values_of(spec, n), "index": n}) for n in range(2))
    assert first.executable == "./run-a"
    assert first.arguments == ["x", "y", "--n=1", "0", "{n}", "${HOME}", "awk '{print $1}'", "true"]
    assert second.arguments == ["--n=2.5", "1", "{n}", "${HOME}", "awk '{print $1}'", ""]
    assert second.environment == {"KIND": "b"}
    assert second.output_data == [OutputData(path="out", lfn="/v/b/2.5", se="t")]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_filled_or_refused_never_broken(text: str) -> None:
    assert fill(text.replace("{", "").replace("}", ""), {"a": 1}) == text.replace("{", "").replace("}", "")
    try:
        spec = normalised(JobSpec(executable="x", arguments=[text]))
    except BadDescription as error:
        assert error.facts["field"] == "arguments[0]"
    else:
        assert "{" in text or spec.arguments == [text]
