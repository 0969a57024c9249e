"""What only the database knows of a description: queries, placement, places for outputs; and the dry run."""

from datetime import UTC, datetime
from typing import Any

import pytest

from spinor.catalog import service as catalog
from spinor.catalog.models import MetadataKey, MetadataType, NewFile
from spinor.errors import SpinorError
from spinor.jobs import service
from spinor.jobs.models import After, Checked, JobSpec, OutputData, Placement, SubmitJobs
from spinor.types import LFN, PFN, SEName
from tests.asgi import Http

from .workbench import Workbench, echo

FILES = 6


@pytest.fixture
async def data(bench: Workbench) -> Workbench:
    """Files on local-se, which is at site LOCAL."""
    files = [
        NewFile(lfn=LFN(f"/astro/in/{n}"), se=SEName("local-se"), size_bytes=10 + n, pfn=PFN(f"in/{n}"))
        for n in range(FILES)
    ]
    await bench.run(catalog.register_files, bench.world.ada, files)
    return bench


async def queue(bench: Workbench) -> dict[str, Any]:
    [(wants,)] = await bench.rows("SELECT wants FROM jobs.task_queue")
    return dict(wants)


async def refusal(bench: Workbench, *specs: JobSpec) -> SpinorError:
    with pytest.raises(SpinorError) as caught:
        await bench.submit(*specs)
    assert await bench.rows("SELECT count(*) FROM jobs.job_array") == [(0,)]
    return caught.value


async def test_a_query_becomes_input_data_once(data: Workbench) -> None:
    spec = echo(input_query="/astro/in size_bytes > 12", input_data=["/astro/in/0", "/astro/in/5"])
    first = await data.submit(spec, key="k")
    [(stored,)] = await data.rows("SELECT spec::json FROM jobs.job_array")
    assert stored["input_data"] == ["/astro/in/0", "/astro/in/5", "/astro/in/3", "/astro/in/4"]
    await data.run(
        catalog.register_files, data.world.ada,
        [NewFile(lfn=LFN("/astro/in/late"), se=SEName("local-se"), size_bytes=50, pfn=PFN("in/late"))],
    )  # fmt: skip
    # The same question with the same key has the answer of the first time, whatever the query would find now.
    assert (await data.submit(spec, key="k")).arrays == first.arrays


@pytest.mark.parametrize(
    ("query", "status", "fragment"),
    [
        ("/astro/in size_bytes > 99", 404, "finds no file"),
        ("/astro/in nonsense >", 400, "input_query: "),
        ("/astro/none", 404, "input_query: "),
        ("/bio/x", 403, "input_query: "),
    ],
)
async def test_a_query_without_an_answer_is_refused(data: Workbench, query: str, status: int, fragment: str) -> None:
    error = await refusal(data, echo(input_query=query))
    assert (error.status, error.facts["field"]) == (status, "input_query"), error.message
    assert fragment in error.message


async def test_jobs_go_to_their_data(data: Workbench) -> None:
    await data.submit(echo(input_data=["/astro/in/1"]))
    wants = await queue(data)
    assert (wants["near_sites"], wants["near_wait_s"]) == (["LOCAL"], 600)


async def test_placement_may_be_required_or_ignored(data: Workbench) -> None:
    await data.submit(echo(input_data=["/astro/in/{n}"], parameters={"n": [1, 2]}, placement=Placement.REQUIRE))
    wants = await queue(data)
    assert (wants["sites"], wants.get("near_sites")) == (["LOCAL"], None)
    error = await _refused(data, echo(input_data=["/astro/in/1"], placement=Placement.REQUIRE, banned_sites=["LOCAL"]))
    assert error.facts["field"] == "placement"
    await data.submit(echo(input_data=["/astro/in/1"], placement=Placement.IGNORE, cores=2))
    assert await data.rows("SELECT count(*) FROM jobs.task_queue WHERE wants ? 'near_sites'") == [(0,)]


async def _refused(bench: Workbench, spec: JobSpec) -> SpinorError:
    with pytest.raises(SpinorError) as caught:
        await bench.submit(spec)
    return caught.value


def out(**fields: Any) -> list[OutputData]:
    return [OutputData(**{"path": "a", "lfn": "/astro/out/{index}", "se": "local-se", **fields})]


REFUSED: list[tuple[dict[str, Any], int, str, str]] = [
    ({"output_data": out(ses=["nowhere"])}, 404, "output_data[0].ses[0]", "local-se"),
    ({"output_data": out(failover=["nowhere"])}, 404, "output_data[0].failover[0]", "local-se"),
    ({"output_data": out(path="*.x", lfn="/bio/x")}, 403, "output_data[0].lfn", "/astro/"),
    ({"output_data": out(lfn="/astro/o/")}, 422, "output_data[0].lfn", "{index}"),
    ({"output_data": out(lfn="/astro/o/{index}{n}")}, 422, "output_data[0].lfn", "make them differ"),
    ({"output_data": out(metadata={"size_bytes": 1})}, 422, "output_data[0].metadata", "every file has"),
    ({"output_data": out(metadata={"run": "{word}"})}, 422, "output_data[0].metadata.run", "integer"),
    ({"banned_sites": ["LOCL"]}, 404, "banned_sites", "LOCAL"),
    ({"computing_elements": ["local-c"]}, 404, "computing_elements", "did you mean 'local-ce'?"),
    ({"deadline": datetime(2020, 1, 1, tzinfo=UTC)}, 422, "deadline", "is over"),
]


@pytest.mark.parametrize(("fields", "status", "field", "fragment"), REFUSED, ids=[str(r[0])[:60] for r in REFUSED])
async def test_what_is_not_there_is_named(
    bench: Workbench, fields: dict[str, Any], status: int, field: str, fragment: str
) -> None:
    await bench.run(catalog.declare_keys, bench.world.ada, [MetadataKey(name="run", type=MetadataType.INTEGER)])
    parameters = {"n": ["0"] * 10 + ["", ""], "word": ["x"] * 12}
    error = await refusal(bench, echo(parameters=parameters, **fields))
    assert (error.status, error.facts.get("field")) == (status, field), error.message
    assert fragment in error.message


async def test_numbered_outputs_are_not_looked_at_one_by_one(bench: Workbench) -> None:
    many = {"n": list(range(200_000))}
    checked = await bench.run(
        service.check_jobs, bench.world.ada, bench.elements, [echo(parameters=many, output_data=out())]
    )
    assert checked.arrays[0].size == 200_000


async def test_patterns_of_many_jobs_in_one_directory_are_warned_of(bench: Workbench) -> None:
    spec = echo(output_data=out(path="*.x", lfn="/astro/out"), parameters={"n": [1, 2]})
    submitted = await bench.submit(spec)
    assert "Put {job_id} into it" in submitted.warnings[0]


async def test_a_dry_run_stores_nothing_and_tells_everything(data: Workbench) -> None:
    specs = [
        echo(name="first", parameters={"n": [1, 2]}, arguments=["{n}"], wall_s="1h", input_data=["/astro/in/{n}"]),
        echo(name="second", after=[After(name="first", each=True)], parameters={"n": [1, 2]}, cores=64),
    ]
    checked: Checked = await data.run(service.check_jobs, data.world.ada, data.elements, specs)
    first, second = checked.arrays
    assert (first.name, first.size, first.parameters, first.description.parameters) == ("first", 2, ["n"], {})
    assert (first.first.arguments, first.requirements["wall_s"]) == (["1"], 3600)
    assert first.requirements["near_sites"] == ["LOCAL"]
    assert "vo_id" not in first.requirements
    assert [(each.computing_element, each.excluded_by) for each in first.elements] == [("local-ce", [])]
    assert second.elements[0].excluded_by == ["cores: the job asks for 64, here are 2"]
    assert "second" in checked.warnings[0]
    for table in ("job_array", "job", "task_queue"):
        assert await data.rows(f"SELECT count(*) FROM jobs.{table}") == [(0,)]


@pytest.mark.parametrize(
    ("specs", "fragment"),
    [
        ([echo(after=[After(array_id=77)])], "there is no array 77"),
        ([echo(after=[After(job_id=77)]), echo()], "specs[0].after[0]: there is no job 77"),
        ([echo(name="a", after=[After(name="a")])], "waits for"),
        ([echo(), echo(wall_s="soon")], "specs[1].wall_s"),
        ([echo(output_data=out(se="nowhere"))], "output_data[0].se"),
    ],
)
async def test_a_dry_run_refuses_what_a_submission_would(bench: Workbench, specs: list[JobSpec], fragment: str) -> None:
    with pytest.raises(SpinorError) as checked:
        await bench.run(service.check_jobs, bench.world.ada, bench.elements, specs)
    assert fragment in checked.value.message
    with pytest.raises(SpinorError):
        await bench.submit(*specs)


async def test_each_needs_arrays_of_one_size(bench: Workbench) -> None:
    array_id = (await bench.submit(echo(parameters={"n": [1, 2]}))).arrays[0].array_id
    spec = echo(after=[After(array_id=array_id, each=True)], parameters={"n": [1, 2, 3]})
    with pytest.raises(SpinorError, match="has 3 jobs, the other 2"):
        await bench.run(service.check_jobs, bench.world.ada, bench.elements, [spec])


async def test_checking_and_the_schema_over_http(bench: Workbench, http: Http) -> None:
    answer = await http(bench.world.ada, "POST", "/api/jobs/check", SubmitJobs(specs=[echo()]))
    assert (answer.status, answer.json["arrays"][0]["size"]) == (200, 1)
    deep = b'{"specs": [{"executable": "x", "parameters": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}]}"
    answer = await http(bench.world.ada, "POST", "/api/jobs/check", deep)
    assert (answer.status, answer.json["detail"]) == (422, "The body is refused: it is nested too deep.")
    answer = await http(bench.world.ada, "GET", "/api/schemas/job.json")
    assert answer.json["title"] == "Spinor job description"
