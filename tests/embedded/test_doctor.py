import json
import os
import re
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from spinor.embedded import cli, doctor, processes
from spinor.embedded import up as verbs
from spinor.embedded.certificates import ensure_certificates
from spinor.embedded.doctor import Finding, examine
from spinor.embedded.health import ServerHealth
from spinor.embedded.layout import Layout
from spinor.embedded.postgres import Cluster
from spinor.embedded.state import read_state

from .conftest import STAND_IN


def wrong(place: Layout, now: datetime | None = None) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(place.root, now) if not finding.ok}


def test_a_healthy_service_and_then_its_faults(place: Layout, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    verbs.up(place.root, port=port, program=STAND_IN)
    assert wrong(place) == {}
    run = CliRunner().invoke
    assert run(cli.status, ["--data", str(place.root)]).exit_code == 0
    answer = run(cli.doctor, ["--data", str(place.root), "--json"])
    assert answer.exit_code == 0
    assert {json.loads(line)["check"] for line in answer.output.splitlines()} == set(doctor._CHECKS)

    late = wrong(place, datetime.now(UTC) + timedelta(days=500))
    assert "expired" in late["certificate"].sentence
    assert "spinor up" in late["certificate"].remedy

    place.host_key.chmod(0o644)
    assert "mode 644" in wrong(place)["permissions"].sentence
    place.host_key.chmod(0o600)

    slow = ServerHealth(healthy=True, sentence="answers 200", date=datetime.now(UTC) - timedelta(seconds=90))
    with monkeypatch.context() as patch:
        patch.setattr(doctor, "server_health", lambda *_: slow)
        assert re.search(r"\b9\d s apart", wrong(place)["clock"].sentence)
        patch.setattr(doctor, "_LEAST_FREE_SHARE", 1.1)
        assert "free" in wrong(place)["disk"].sentence

    state = read_state(place)
    assert state
    os.kill(state.supervisor.pid, signal.SIGKILL)
    processes.wait_until_gone(state.supervisor, 5.0)
    assert "without their supervisor" in wrong(place)["leftovers"].sentence
    answer = run(cli.status, ["--data", str(place.root)])
    assert answer.exit_code == 1
    assert "supervisor" in answer.output

    verbs.down(place.root, program=STAND_IN)
    assert wrong(place) == {}
    assert run(cli.status, ["--data", str(place.root), "--json"]).exit_code == 3
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        assert f"process {os.getpid()}" in wrong(place)["port"].sentence


def test_nothing_there(open_directory: Path) -> None:
    assert wrong(Layout(open_directory / "nothing"))["data"].remedy.startswith("Run `spinor up`")
    answer = CliRunner().invoke(cli.status, ["--data", str(open_directory / "nothing")])
    assert answer.exit_code == 3
    assert CliRunner().invoke(cli.down, ["--data", str(open_directory / "nothing")]).output == "Spinor was not up.\n"


def test_an_unreadable_certificate_is_a_finding(place: Layout) -> None:
    place.make()
    ensure_certificates(place)
    place.ca.write_text("garbage")
    assert str(place.ca) in wrong(place)["certificate"].sentence


def test_a_database_that_refuses(place: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    place.make()
    monkeypatch.setenv("SPINOR_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert "refuses" in wrong(place)["database"].sentence
    assert not Cluster(place).exists
