"""The published schema says the same as the service: what one refuses, the other does, too."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from spinor.errors import SpinorError
from spinor.jobs.description.documents import Text
from spinor.jobs.description.schema import WORDS, schema
from spinor.jobs.description.structs import spec_of
from spinor.jobs.models import After, JobSpec, Notify, OutputData, Retries

DOCS = Path(__file__).parents[3] / "docs"
VALID = jsonschema.Draft202012Validator(schema())

GOOD: list[dict[str, Any]] = [
    {"executable": "x"},
    {"executable": "x", "arguments": ["a", 1, 2.5, True], "environment": {"A": 1}},
    {"executable": "x", "memory_bytes": 5, "disk_bytes": "1.5 GiB", "wall_s": "1h30m", "stop_margin_s": 0},
    {"executable": "x", "cores": 2, "max_cores": 4, "gpus": 1, "gpu_model": "A100", "gpu_memory_bytes": "16GB"},
    {"executable": "x", "output_data": [{"path": "a", "lfn": "/v/a", "se": "S", "metadata": {"k": 1}}]},
    {"executable": "x", "retries": {"site": 0, "delay_s": "2 min"}, "after": [{"array_id": 3, "each": True}]},
    {
        "executable": "x",
        "notify": [{"on": ["failed"], "webhook": "https://a.org/b"}],
        "deadline": "2030-01-01T00:00:00Z",
    },
    {"executable": "x", "parameters": {"a": [1, "x", None, [1, 2]]}, "token_scopes": ["files:read"], "hold": True},
    {"executable": "x", "stop_signal": "usr1", "placement": "require", "input_policy": "protocol"},
]
BAD: list[dict[str, Any]] = [
    {},
    {"executable": 5},
    {"executable": "x", "coers": 2},
    {"executable": "x", "cores": 0},
    {"executable": "x", "cores": 1.5},
    {"executable": "x", "max_cores": 5000},
    {"executable": "x", "memory_bytes": "lots"},
    {"executable": "x", "memory_bytes": -1},
    {"executable": "x", "wall_s": "soon"},
    {"executable": "x", "priority": 10},
    {"executable": "x", "arguments": [["a"]]},
    {"executable": "x", "environment": {"A": None}},
    {"executable": "x", "output_data": [{"path": "a"}]},
    {"executable": "x", "output_data": [{"path": "a", "lfn": "/v/a", "se": "S", "more": 1}]},
    {"executable": "x", "retries": {"site": -1}},
    {"executable": "x", "retries": {"memory_growth": 0.5}},
    {"executable": "x", "placement": "anywhere"},
    {"executable": "x", "token_scopes": ["everything"]},
    {"executable": "x", "notify": [{"on": ["often"], "email": "a@b.org"}]},
    {"executable": "x", "notify": [{"webhook": "http://a.org"}]},
    {"executable": "x", "parameters": {"a": 5}},
    {"executable": "x", "hold": "maybe"},
]


@pytest.mark.parametrize("document", GOOD, ids=str)
def test_good_for_both(document: dict[str, Any]) -> None:
    VALID.validate(document)
    VALID.validate([document, document])
    spec_of(document, {})


@pytest.mark.parametrize("document", BAD, ids=str)
def test_bad_for_both(document: dict[str, Any]) -> None:
    assert not VALID.is_valid(document)
    with pytest.raises(SpinorError):
        spec_of(document, {})


def test_every_field_is_described_with_examples_that_are_valid() -> None:
    for struct in (JobSpec, OutputData, Retries, After, Notify):
        assert list(WORDS[struct.__name__]) == list(struct.__struct_fields__)
    for name, (_, examples) in WORDS["JobSpec"].items():
        for example in examples:
            VALID.validate({"executable": "x", name: example})


def documented() -> list[Any]:
    found = []
    for page in sorted(DOCS.rglob("*.md")):
        for n, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)):
            if re.search(r"^(?:- )?executable:|^ {2}executable:", block, re.MULTILINE) and "cwlVersion" not in block:
                found.append(pytest.param(block, id=f"{page.name}-{n}"))
    return found


@pytest.mark.parametrize("block", documented())
def test_documented_examples_are_valid(block: str) -> None:
    for document in Text(block).documents():
        VALID.validate(document)
        for each in document if isinstance(document, list) else [document]:
            spec_of({name: value for name, value in each.items() if name != "input_sandbox"}, {})


def test_the_schema_is_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(schema()))["title"] == "Spinor job description"
    jsonschema.Draft202012Validator.check_schema(schema())
