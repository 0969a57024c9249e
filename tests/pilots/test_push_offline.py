"""What stands in the server's place on a node that sees no network."""

import json
from pathlib import Path

import pytest

from spinor_pilot.offline import Mailbox
from spinor_pilot.server import GivenUp


def test_a_node_is_not_told_to_drain_before_its_jobs_began(tmp_path: Path) -> None:
    no_data: dict[str, object] = {"input_data": [], "output_data": []}
    jobs = [{"job_id": number, "attempt": 1, **no_data} for number in (7, 8)]
    (tmp_path / "assignments.json").write_text(json.dumps(jobs))
    mailbox = Mailbox(tmp_path, tmp_path / "spool")

    def drains() -> bool:
        return bool(mailbox.json("POST", "/api/pilot/heartbeat", {})["drain"])

    def tell(kind: str, job_id: int) -> None:
        mailbox.json(
            "POST", "/api/pilot/reports", {"started": [], "ended": [], kind: [{"job_id": job_id, "attempt": 1}]}
        )

    assert not drains()
    assert len(mailbox.json("POST", "/api/pilot/match", {})["jobs"]) == 2
    assert not drains()
    tell("started", 7)
    assert not drains()
    tell("ended", 8)
    assert drains()
    with pytest.raises(GivenUp):
        mailbox.json("POST", "/api/pilot/match", {}, wait_s=60, given_up=lambda: True)
