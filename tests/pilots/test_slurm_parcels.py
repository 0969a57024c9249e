"""Files that go to Slurm with a pilot, and those that it leaves; the whole way: test_push_carriers.py."""

import zipfile
from pathlib import Path

import msgspec
import pytest

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import PilotLaunch
from spinor.testing.computing_contract import Launcher
from tests.servers.slurm import SlurmCluster

from .test_slurm_element import by_login, launch, reaches, secrets, submitted

__all__ = ["launch", "secrets"]
pytestmark = [pytest.mark.peer("slurm"), pytest.mark.peer("sshd"), pytest.mark.acceptance]


def leaving(one: PilotLaunch, directory: Path, program: str) -> PilotLaunch:
    bundle = directory / "parcel.pyz"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("__main__.py", program)
    return msgspec.structs.replace(one, bundle=bundle, leaves="left.tar")


async def test_what_was_brought_back_is_removed_there(
    slurm_cluster: SlurmCluster, secrets: Path, launch: Launcher, tmp_path: Path
) -> None:
    directory = slurm_cluster.home / "parcels"
    plugin = by_login(slurm_cluster, secrets, directory=str(directory))
    program = "import sys\nopen('left.tar', 'w').write('results')\nsys.exit(3)"
    number = await submitted(plugin, leaving(launch(), tmp_path, program))
    await reaches(plugin, number, ElementState.FAILED)
    assert await plugin.bring(number, "left.tar", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "results"
    assert {path.suffix for path in directory.iterdir()} == {".out"}
    assert not await plugin.bring(number, "left.tar", tmp_path / "again")
    assert not await plugin.bring("no-such-job", "left.tar", tmp_path / "again")


async def test_the_parcel_of_a_pilot_that_never_began_is_removed(
    slurm_cluster: SlurmCluster, secrets: Path, launch: Launcher, tmp_path: Path
) -> None:
    directory = slurm_cluster.home / "waiting-parcels"
    plugin = by_login(slurm_cluster, secrets, directory=str(directory), partition="closed")
    number = await submitted(plugin, leaving(launch(), tmp_path, "1"))
    (parcel,) = directory.iterdir()
    assert parcel.stat().st_mode & 0o777 == 0o600
    await plugin.cancel([number])
    assert not list(directory.iterdir())
