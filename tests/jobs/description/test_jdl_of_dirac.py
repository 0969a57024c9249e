"""Parametric JDL beside DIRAC's own expansion of it."""

import json
import subprocess

import pytest

from bench.peers import ENVIRONMENTS
from spinor.jobs.description import expanded, normalised, size_of, values_of
from spinor.jobs.description.jdl import translate

PYTHON = str(ENVIRONMENTS / "dirac" / "bin" / "python")
pytestmark = pytest.mark.peer("dirac")

# It prints, for each JDL of stdin, the Arguments of each of its jobs.
PROGRAM = """
import json, sys
from DIRACCommon.Core.Utilities.ClassAd.ClassAdLight import ClassAd
from DIRACCommon.WorkloadManagementSystem.Utilities.ParametricJob import generateParametricJobs
found = []
for jdl in json.load(sys.stdin):
    result = generateParametricJobs(ClassAd(jdl))
    found.append([ClassAd(each).getAttributeString("Arguments") for each in result["Value"]])
json.dump(found, sys.stdout)
"""

SAMPLES = [
    "Parameters = 5;",
    "Parameters = 12; ParameterStart = 3; ParameterStep = 2;",
    "Parameters = 5; ParameterStart = 1; ParameterStep = 1; ParameterFactor = 3;",
    "Parameters = 3; ParameterStart = 0.5; ParameterFactor = 2;",
    "Parameters = 3; ParameterStart = 1; ParameterStep = 0.25;",
    'Parameters = {"a", "b", "c"};',
    "Parameters = {10, 20, 30};",
]
TEXTS = ["%s", "x%s-%n", "%n", "fixed", "--a %s --b %s"]


def test_the_values_are_those_of_dirac() -> None:
    jdls = [f'[ Executable = "x"; Arguments = "{text}"; {sample} ]' for sample in SAMPLES for text in TEXTS]
    done = subprocess.run([PYTHON, "-c", PROGRAM], input=json.dumps(jdls), capture_output=True, text=True, check=True)
    for jdl, theirs in zip(jdls, json.loads(done.stdout), strict=True):
        whole = normalised(translate(jdl).specs[0])
        ours = [
            " ".join(map(str, expanded(whole, {**values_of(whole, n), "index": n}).arguments))
            for n in range(size_of(whole))
        ]
        assert ours == theirs, jdl


def test_named_sequences_are_those_of_dirac() -> None:
    jdl = (
        '[ Executable = "x"; Arguments = "%(a)s/%(b)s/%s/%n"; Parameters = 3; ParameterStart = 7;'
        ' Parameters.a = {"p", "q", "r"}; Parameters.b = {1, 2, 3}; ]'
    )
    done = subprocess.run([PYTHON, "-c", PROGRAM], input=json.dumps([jdl]), capture_output=True, text=True, check=True)
    whole = normalised(translate(jdl).specs[0])
    ours = [expanded(whole, {**values_of(whole, n), "index": n}).arguments for n in range(3)]
    assert [[each] for each in json.loads(done.stdout)[0]] == ours
