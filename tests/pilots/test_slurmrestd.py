"""What Slurm's REST service tells of all jobs, with a stand-in: a real one has no cluster's worth of them."""

import json
from typing import Any

import httpx
import pytest

from spinor.pilots.plugin import ElementUnavailable
from spinor.pilots.plugins.slurmrestd import NEW, _Talk

JOB = {"job_id": 7, "name": "one", "job_state": ["RUNNING"], "state_reason": "None", "tres_req_str": "cpu=1"}


def talk(content: bytes, status: int = 200) -> _Talk:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, content=content))
    talk = _Talk(httpx.AsyncClient(base_url="http://127.0.0.1", transport=transport), "http://127.0.0.1")
    talk.version = NEW
    return talk


@pytest.mark.parametrize("state", [["RUNNING"], "RUNNING"])
async def test_no_more_is_read_of_all_jobs_than_we_need(state: list[str] | str) -> None:
    told: dict[str, Any] = {"jobs": [JOB | {"job_state": state}], "errors": [], "last_update": {"number": 1}}
    assert await talk(json.dumps(told).encode()).every() == [
        {"job_id": 7, "name": "one", "job_state": state, "state_reason": "None"}
    ]


@pytest.mark.parametrize("content", [b"", b'{"jobs": [{"job_id"', b'{"errors": []}', b'{"jobs": {"job_id": 7}}'])
async def test_what_cannot_be_read_is_not_taken_for_no_jobs(content: bytes) -> None:
    with pytest.raises(ElementUnavailable, match="no list of jobs"):
        await talk(content).every()


async def test_an_error_is_told() -> None:
    content = json.dumps({"errors": [{"error_number": 1, "description": "Unable to contact slurm controller"}]})
    with pytest.raises(ElementUnavailable, match="Unable to contact"):
        await talk(content.encode(), 500).every()
