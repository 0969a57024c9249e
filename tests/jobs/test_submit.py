"""Submission: all or nothing, whatever is wrong, and the same answer to the same key."""

import asyncio
from typing import Any

import pytest

from spinor.catalog import service as catalog
from spinor.catalog.models import NewFile
from spinor.errors import SpinorError
from spinor.jobs.models import JobSpec, OutputData
from spinor.types import LFN, PFN, SEName

from .workbench import GB, Workbench, echo


async def test_a_job_waits_with_its_history(bench: Workbench) -> None:
    submitted = await bench.submit(echo(name="first"))
    [array] = submitted.arrays
    assert (array.name, array.size, submitted.warnings) == ("first", 1, [])
    assert await bench.history(array.ids[0]) == ["waiting"]


async def test_ten_thousand_jobs_in_one_call(bench: Workbench) -> None:
    submitted = await bench.submit(echo(arguments=["{n}"], parameters={"n": list(range(10_000))}))
    assert len(submitted.arrays[0].ids) == 10_000
    for table in ("job", "waiting"):
        assert await bench.rows(f"SELECT count(*) FROM jobs.{table}") == [(10_000,)]
    assert await bench.rows("SELECT count(*), sum(jsonb_array_length(elements)) FROM jobs.array_parameters") == [
        (100, 10_000)
    ]
    [job] = await bench.match()
    assert job.arguments == ["0"]


async def test_many_descriptions_in_one_call(bench: Workbench) -> None:
    specs = [echo(name=f"n{n}", cores=1 + n % 3, parameters={"x": [n]} if n % 2 else {}) for n in range(100)]
    submitted = await bench.submit(*specs)
    assert [array.name for array in submitted.arrays] == [spec.name for spec in specs]
    rows = await bench.rows(
        "SELECT a.name, p.elements FROM jobs.array_parameters p JOIN jobs.job_array a USING (array_id)"
    )
    assert dict(rows) == {f"n{n}": [{"x": n}] for n in range(1, 100, 2)}
    assert await bench.rows("SELECT count(*) FROM jobs.task_queue") == [(3,)]


async def test_submitters_side_by_side_share_their_queue(bench: Workbench) -> None:
    await asyncio.gather(*(bench.submit(echo(parameters={"x": list(range(50))})) for _ in range(10)))
    assert await bench.rows("SELECT count(*) FROM jobs.task_queue") == [(1,)]
    assert await bench.rows("SELECT count(*) FROM jobs.waiting") == [(500,)]


async def test_the_same_key_submits_once(bench: Workbench) -> None:
    specs = [echo(parameters={"x": [1, 2]}), echo(name="other")]
    first = await bench.submit(*specs, key="k")
    again = await bench.submit(*specs, key="k")
    assert (first.arrays, again.arrays) == (again.arrays, first.arrays)
    assert await bench.rows("SELECT count(*) FROM jobs.job") == [(3,)]
    with pytest.raises(SpinorError) as caught:
        await bench.submit(echo(name="something else"), key="k")
    assert caught.value.code == "key-reused"
    # Another owner's key is another key.
    assert (await bench.submit(*specs, caller=bench.world.alan, key="k")).arrays[0].array_id not in {
        array.array_id for array in first.arrays
    }


async def test_the_same_key_side_by_side_submits_once(bench: Workbench) -> None:
    answers = await asyncio.gather(*(bench.submit(echo(), key="same") for _ in range(8)))
    assert len({answer.arrays[0].array_id for answer in answers}) == 1
    assert await bench.rows("SELECT count(*) FROM jobs.job") == [(1,)]


def out(lfn: str = "/astro/out", se: str = "local-se") -> list[OutputData]:
    return [OutputData(path="out", lfn=lfn, se=se)]


REFUSED: list[tuple[dict[str, Any], int, str, str]] = [
    ({"input_data": ["/astro/none"]}, 404, "input_data", "/astro/none"),
    ({"input_data": ["/bio/x"]}, 403, "input_data", "/astro/"),
    ({"input_data": ["not-an-lfn"]}, 422, "input_data[0]", "begins with /"),
    ({"input_data": ["/astro/{n}"], "parameters": {"n": list(range(500))}}, 404, "input_data", "495 more"),
    ({"output_data": out(se="nowhere")}, 404, "output_data[0].se", "local-se"),
    ({"output_data": out(se="bio-se")}, 404, "output_data[0].se", "bio-se"),
    ({"output_data": out("/bio/x")}, 403, "output_data[0].lfn", "/astro/"),
    ({"output_data": out("/astro/a/../b")}, 422, "output_data[0].lfn", ".."),
    ({"output_data": out(), "parameters": {"n": [1, 2]}}, 422, "output_data[0].lfn", "{index}"),
    ({"output_data": [*out(), *out()]}, 422, "output_data[1].lfn", "output_data[0].lfn"),
    ({"sites": ["NOWHERE"]}, 404, "sites", "LOCAL"),
    ({"input_sandboxes": [99]}, 404, "input_sandboxes", "99"),
]


@pytest.mark.parametrize(("fields", "status", "field", "fragment"), REFUSED, ids=[str(r[0])[:60] for r in REFUSED])
async def test_what_is_not_there_is_named(
    bench: Workbench, fields: dict[str, Any], status: int, field: str, fragment: str
) -> None:
    with pytest.raises(SpinorError) as caught:
        await bench.submit(echo(**fields))
    assert (caught.value.status, caught.value.facts.get("field")) == (status, field), caught.value.message
    assert fragment in caught.value.message
    assert await bench.rows("SELECT count(*) FROM jobs.job_array") == [(0,)]


async def test_one_bad_description_refuses_all(bench: Workbench) -> None:
    with pytest.raises(SpinorError, match=r"specs\[1\]\.wall_s"):
        await bench.submit(echo(), echo(wall_s="soon"))
    assert await bench.rows("SELECT count(*) FROM jobs.job_array") == [(0,)]


async def test_what_no_element_can_run_is_accepted_with_a_warning(bench: Workbench) -> None:
    submitted = await bench.submit(echo(cores=64, name="huge"))
    assert submitted.arrays[0].size == 1
    assert "local-ce" in submitted.warnings[0]
    assert "cores: the job asks for 64, here are 2" in submitted.warnings[0]


async def test_another_users_sandbox_is_unknown(bench: Workbench) -> None:
    await bench.rows(
        "INSERT INTO jobs.sandbox (vo_id, owner_id, sha256, size_bytes) "
        "SELECT %(vo)s, %(user)s, decode(repeat('00', 32), 'hex'), 1 RETURNING sandbox_id",
        vo=bench.world.alan.vo_id, user=bench.world.alan.user_id,
    )  # fmt: skip
    with pytest.raises(SpinorError, match="no sandbox 1"):
        await bench.submit(echo(input_sandboxes=[1]))
    await bench.submit(echo(input_sandboxes=[1]), caller=bench.world.alan)


async def test_input_files_are_found_for_all_jobs_at_once(bench: Workbench) -> None:
    files = [
        NewFile(lfn=LFN(f"/astro/in/{n}"), se=SEName("local-se"), size_bytes=n, pfn=PFN(f"in/{n}")) for n in range(20)
    ]
    await bench.run(catalog.register_files, bench.world.ada, files)
    submitted = await bench.submit(
        JobSpec(executable="cat", input_data=["/astro/in/{n}"], parameters={"n": list(range(20))}, memory_bytes=1 * GB)
    )
    assert submitted.arrays[0].size == 20
    [job] = await bench.match()
    assert [(file.lfn, file.size_bytes) for file in job.input_data] == [("/astro/in/0", 0)]
    assert job.input_data[0].replicas[0].se == "local-se"
