"""What a job of Slurm has left, without Slurm: it may be away, or have forgotten the job, or the link is lost."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from spinor.pilots.plugin import ElementSettings, ElementUnavailable
from spinor.pilots.plugins.machines import TIMEOUT_S, Ran, ThisMachine
from spinor.pilots.plugins.slurm import SlurmComputing


class Losing(ThisMachine):
    """Loses the link: scripts come as far as `cut` says, and after them nothing is heard."""

    def __init__(self, cut: int | None) -> None:
        super().__init__()
        self.cut = cut

    async def run(
        self,
        words: Sequence[str],
        stdin: bytes | Path = b"",
        *,
        stdout: Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Ran:
        if stdout is not None:
            return await super().run(words, stdin, stdout=stdout, timeout_s=timeout_s)
        assert isinstance(stdin, bytes)
        await super().run(words, stdin[: self.cut])
        raise ElementUnavailable("The link is lost.")


def plugin(directory: Path) -> SlurmComputing:
    options = {"directory": str(directory), "bin": "/nonexistent"}
    return SlurmComputing(
        ElementSettings(name="cluster", site="CLUSTER", options=options, directory=Path("/nonexistent"))
    )


async def test_what_slurm_has_forgotten_comes_back(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "spinor-4711.left.tar").write_text("results")
    slurm = plugin(tmp_path / "there")
    assert not await slurm.bring("4712", "left.tar", tmp_path / "back")
    assert not await slurm.bring("../there/4711", "left.tar", tmp_path / "back")
    assert await slurm.bring("4711", "left.tar", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "results"
    assert not list((tmp_path / "there").iterdir())


async def test_what_has_come_counts_also_when_the_link_is_lost_then(tmp_path: Path) -> None:
    (tmp_path / "spinor-4711.left.tar").write_text("results")
    slurm = plugin(tmp_path)
    slurm._machine = Losing(cut=0)
    assert await slurm.bring("4711", "left.tar", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "results"


async def test_of_a_script_that_is_cut_off_nothing_is_done(tmp_path: Path) -> None:
    """Half a command can be one of its own, and `rm -rf /a/b` is none that should be cut."""
    slurm, place = plugin(tmp_path / "none"), tmp_path / "place"
    script = f"mkdir {place}\ntouch {place}/first\ntouch {place}/second"
    for cut in range(-2, -len("touch second\n}\n"), -1):
        slurm._machine = Losing(cut)
        with pytest.raises(ElementUnavailable, match="lost"):
            await slurm._run(script)
        assert not place.exists()
    slurm._machine = Losing(cut=None)
    with pytest.raises(ElementUnavailable, match="lost"):
        await slurm._run(script)
    assert place.exists()
