"""The peers give figures of everything that is compared with them, and leave nothing behind."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import jobs_submit, peers
from bench.catalog_peers import WORDS
from bench.peers.workplace import Workplace, workplace
from spinor.embedded import processes

FAST = {"files", "bytes_per_file", "register_files_per_s", "replicas_lfns_per_s", "stat_ms", "list_10000_ms"}
FAST |= {"remove_files_per_s"}
PLAIN = {"files", "register_files_per_s", "metadata_hits", "metadata_ms"}
RUCIO = {"files", "bytes_per_file", "register_files_per_s", "replicas_lfns_per_s", "stat_ms", "ping_ms"}
DIRACX = {f"one_{clients}_{what}" for clients in (1, 16) for what in ("per_s", "ms", "p99_ms", "refused_percent")}
DIRACX |= {"bulk_per_s", "bulk_ms"}


@pytest.mark.timeout(900)  # Half a minute in all on a machine that does nothing else.
@pytest.mark.parametrize(
    ("name", "keys"),
    [
        pytest.param("dirac", FAST, id="dirac", marks=pytest.mark.peer("dirac")),
        pytest.param("dirac-plain", PLAIN, id="dirac-plain", marks=pytest.mark.peer("dirac")),
        pytest.param("rucio", RUCIO, id="rucio", marks=pytest.mark.peer("rucio")),
    ],
)
def test_a_peer_gives_its_figures(name: str, keys: set[str]) -> None:
    found = peers.figures(name, "trial")
    assert found is not None
    assert set(found) == keys
    assert all(value > 0 for value in found.values())
    assert keys <= set(WORDS)


@pytest.mark.timeout(300)
@pytest.mark.peer("diracx")
def test_diracx_takes_jobs_in() -> None:
    found = peers.figures("diracx", "trial")
    assert found is not None
    assert set(found) == DIRACX
    # At 16 clients some fail on SQLite's lock, and the rate is of the others.
    assert all(value > 0 for name, value in found.items() if not name.endswith("_refused_percent"))
    assert found["one_1_refused_percent"] == 0
    assert set(jobs_submit.PUBLISHED_PER_S) <= DIRACX


def test_a_peer_that_is_not_installed_has_no_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    peers.figures.cache_clear()
    assert peers.figures("rucio", "trial") is None
    assert "run scripts/peers rucio" in capsys.readouterr().err
    peers.figures.cache_clear()


@pytest.fixture
def work() -> Iterator[Workplace]:
    with workplace("rucio") as made:
        yield made


def test_an_interrupted_workplace_stops_its_servers() -> None:
    with pytest.raises(KeyboardInterrupt), workplace("rucio") as work:
        server = work.serve(["sleep", "1000"], lambda: True)
        assert processes.process(server) is not None
        raise KeyboardInterrupt
    assert processes.process(server) is None
    assert not work.root.exists()


def test_a_server_that_does_not_start_says_why(work: Workplace) -> None:
    with pytest.raises(peers.PeerFailed, match="cannot be found") as failure:
        work.serve(["sh", "-c", "echo error: the thing cannot be found; exit 1"], lambda: False)
    assert "sh did not start" in str(failure.value)


def test_every_peer_has_its_line_in_the_script() -> None:
    script = (peers.ROOT / "scripts" / "peers").read_text()
    for name in peers.PEERS:
        assert re.search(rf"^    ([\w -]+\| )?{name}( \|[\w -|]+)?\)", script, re.MULTILINE), name
