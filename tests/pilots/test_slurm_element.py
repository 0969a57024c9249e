"""A real Slurm cluster by its commands, here and through its login node, under the contract of all elements."""

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import (
    BadOptions,
    ComputingPlugin,
    ElementRefused,
    ElementSettings,
    ElementUnavailable,
    PilotLaunch,
)
from spinor.pilots.plugins.slurm import SlurmComputing
from spinor.pilots.plugins.slurmrestd import SlurmRestComputing
from spinor.pilots.plugins.ssh_machine import close_connections
from spinor.testing.computing_contract import ENDED, ComputingContract, Launcher, Maker, launcher
from tests.servers.slurm import ONLOOKER, USER, Size, SlurmCluster, slurm_cluster

URL = "https://spinor.example"
pytestmark = [pytest.mark.peer("slurm"), pytest.mark.acceptance]


@pytest.fixture
async def secrets(slurm_cluster: SlurmCluster, tmp_path: Path) -> AsyncIterator[Path]:
    """Where an operator has put the key and the known hosts."""
    place = tmp_path / "secrets"
    slurm_cluster.ssh.files_for_clients(place, slurm_cluster.login)
    yield place
    await close_connections()


def element(options: dict[str, object], secrets: Path = Path("/nonexistent"), name: str = "cluster") -> SlurmComputing:
    given = {"grace_s": 1, **options}
    return SlurmComputing(
        ElementSettings(
            name=name, site="CLUSTER", options=given, directory=Path("/nonexistent"), url=URL, secrets=secrets
        )
    )


def by_login(cluster: SlurmCluster, secrets: Path, **more: object) -> SlurmComputing:
    ssh = {"user": USER, "key_file": "id"}
    host = f"localhost:{cluster.login.port}"
    return element({"host": host, "ssh": ssh, "directory": str(cluster.home / "pilots"), **more}, secrets)


@pytest.fixture
def launch(tmp_path: Path) -> Launcher:
    return launcher(tmp_path)


@pytest.fixture
def rest_secrets(slurm_cluster: SlurmCluster, tmp_path: Path) -> Path:
    return with_token(slurm_cluster, tmp_path)


def with_token(cluster: SlurmCluster, tmp_path: Path) -> Path:
    """Where an operator has put the token."""
    place = tmp_path / "rest-secrets"
    place.mkdir()
    (place / "token").touch(mode=0o600)
    (place / "token").write_text(cluster.token())
    return place


def by_rest(cluster: SlurmCluster, secrets: Path, **more: object) -> SlurmRestComputing:
    directory = cluster.shared("rest-pilots")
    options = {"url": cluster.rest, "user": USER, "token_file": "token", "directory": str(directory), "grace_s": 1}
    return SlurmRestComputing(
        ElementSettings(
            name="rest", site="CLUSTER", options={**options, **more}, directory=Path("/nonexistent"), url=URL,
            secrets=secrets,
        )
    )  # fmt: skip


class TestHere(ComputingContract):
    """The worker is on a machine of the cluster."""

    patience_s = 60.0
    when_waiting: ClassVar = {"partition": "closed"}
    when_down: ClassVar = {"bin": "/nonexistent", "slurm_conf": "/nonexistent/slurm.conf"}

    @pytest.fixture
    def make(self, slurm_cluster: SlurmCluster) -> Maker:
        own = {"directory": str(slurm_cluster.place / "root-pilots"), "slurm_conf": str(slurm_cluster.settings)}
        return lambda **options: element({**own, **options})


class TestByLogin(ComputingContract):
    """The worker is elsewhere, and reaches the login node through SSH."""

    patience_s = 60.0
    when_waiting: ClassVar = {"partition": "closed"}
    when_down: ClassVar = {"host": "localhost:9"}

    @pytest.fixture
    def make(self, slurm_cluster: SlurmCluster, secrets: Path) -> Maker:
        return lambda **options: by_login(slurm_cluster, secrets, **options)


class TestREST(ComputingContract):
    """The worker only reaches the REST service, and shares a file system with the cluster."""

    patience_s = 60.0
    when_waiting: ClassVar = {"partition": "closed"}
    when_down: ClassVar = {"url": "http://127.0.0.1:9"}

    @pytest.fixture
    def make(self, slurm_cluster: SlurmCluster, rest_secrets: Path) -> Maker:
        return lambda **options: by_rest(slurm_cluster, rest_secrets, **options)


@pytest.mark.peer("slurm24")
class TestLaterREST(ComputingContract):
    """Slurm 24.11, which speaks other versions of the REST service."""

    patience_s = 60.0
    when_waiting: ClassVar = {"partition": "closed"}
    when_down: ClassVar = {"url": "http://127.0.0.1:9"}

    @pytest.fixture
    def make(self, slurm24_cluster: SlurmCluster, tmp_path: Path) -> Maker:
        secrets = with_token(slurm24_cluster, tmp_path)
        return lambda **options: by_rest(slurm24_cluster, secrets, **options)


# ------------------------------------------------------------------------------------------------------ what is asked


async def test_slurm_shows_the_secret_to_nobody(slurm_cluster: SlurmCluster, secrets: Path, launch: Launcher) -> None:
    """Neither while the job waits nor while it runs, neither to another user nor to its own."""
    for partition, state in (("closed", ElementState.WAITING), ("short", ElementState.RUNNING)):
        plugin, one = by_login(slurm_cluster, secrets, partition=partition), launch("long")
        number = await submitted(plugin, one)
        await reaches(plugin, number, state)
        for user in (USER, ONLOOKER):
            shown = slurm_cluster.run("scontrol", "--details", "--all", "show", "job", number, run_as=user)
            shown += slurm_cluster.run("squeue", "--states=all", "--Format=all:200", run_as=user)
            shown += slurm_cluster.run("sacct", "--allusers", "--parsable2", "--format=ALL", run_as=user)
            assert one.secret not in shown
        script = slurm_cluster.run("scontrol", "write", "batch_script", number, "-")
        assert "A pilot of Spinor" in script
        assert one.secret not in script
        shown = slurm_cluster.run("scontrol", "write", "batch_script", number, "-", run_as=ONLOOKER)
        assert "A pilot of Spinor" not in shown
        assert not readable_with(one.secret.encode(), slurm_cluster.place), "in a file that another account may read"
        await plugin.cancel([number])


async def test_the_script_is_one_for_all_pilots(slurm_cluster: SlurmCluster, secrets: Path, launch: Launcher) -> None:
    """So that Slurm's database keeps it once."""
    plugin = by_login(slurm_cluster, secrets, partition="closed")
    numbers = [await submitted(plugin, launch()) for _ in range(2)]
    one, other = (slurm_cluster.run("scontrol", "write", "batch_script", number, "-") for number in numbers)
    assert one == other
    await plugin.cancel(numbers)


ASKED = {"partition": "closed", "exclusive": True, "memory": False, "constraint": "fast&big"}
SHOWN = (
    "Partition=closed", "TimeLimit=00:10:00", "OverSubscribe=NO", "WorkDir=/\n", "Nice=7", "NumCPUs=1",
    "CPUs/Task=1", "StdIn=/dev/null", "Features=fast&big",
)  # fmt: skip


async def asks_for(cluster: SlurmCluster, plugin: ComputingPlugin, one: PilotLaunch, *more: str) -> None:
    number = await submitted(plugin, one)
    shown = cluster.run("scontrol", "show", "job", number)
    assert not [fact for fact in (*SHOWN, *more) if fact not in shown], shown
    await plugin.cancel([number])


async def test_jobs_ask_for_what_the_options_say(
    slurm_cluster: SlurmCluster, secrets: Path, rest_secrets: Path, launch: Launcher
) -> None:
    await asks_for(slurm_cluster, by_login(slurm_cluster, secrets, **ASKED, extra=["--nice=7"]), launch(), "Requeue=0")
    # Version 0.0.38 lets nobody say that a job is not to be requeued; a second start ends at once, without a secret.
    await asks_for(slurm_cluster, by_rest(slurm_cluster, rest_secrets, **ASKED, extra={"nice": 7}), launch())


@pytest.mark.peer("slurm24")
async def test_a_later_service_asks_for_the_same(
    slurm24_cluster: SlurmCluster, tmp_path: Path, launch: Launcher
) -> None:
    secrets = with_token(slurm24_cluster, tmp_path)
    await asks_for(
        slurm24_cluster, by_rest(slurm24_cluster, secrets, **ASKED, extra={"nice": 7}), launch(), "Requeue=0"
    )
    plugin = by_rest(slurm24_cluster, secrets, extra={"no_such_field": 1})
    (answer,) = await plugin.submit([launch()])
    assert answer.external_id is None, "what the service ignores would be missed by whoever asked for it"
    assert "no_such_field" in answer.error


async def test_the_script_prepares_the_node(slurm_cluster: SlurmCluster, secrets: Path, launch: Launcher) -> None:
    options = {"environment": {"SITE": "it's"}, "setup": ['export WHERE="$SLURMD_NODENAME"', "echo prepared"]}
    plugin = by_login(slurm_cluster, secrets, **options)
    number = await submitted(plugin, launch())
    await reaches(plugin, number, ElementState.DONE)
    text = (await plugin.output([number]))[number]
    assert "prepared" in text
    assert "'SITE'" in text
    assert "'WHERE'" in text
    assert "SSH_CONNECTION" not in text


async def test_of_two_held_jobs_of_a_pilot_one_runs(
    slurm_cluster: SlurmCluster, secrets: Path, launch: Launcher
) -> None:
    """Two workers looked, saw nothing, submitted, and died. The first that looks again puts it right."""
    plugin, one = by_login(slurm_cluster, secrets), launch()
    twins = [await held(plugin, one) for _ in range(2)]
    assert await plugin.find([one.pilot_id]) == {one.pilot_id: min(twins, key=int)}
    await reaches(plugin, min(twins, key=int), ElementState.DONE)
    await reaches(plugin, max(twins, key=int), ElementState.FAILED)


async def test_another_services_jobs_are_left_alone(
    slurm_cluster: SlurmCluster, secrets: Path, launch: Launcher
) -> None:
    plugin, one = by_login(slurm_cluster, secrets), launch("long")
    other = element(msgspec.to_builtins(plugin.options), secrets, name="another-element")
    number = await submitted(plugin, one)
    assert await other.find([one.pilot_id]) == {}
    assert await other.status([number]) == {number: ElementState.VANISHED}
    await other.cancel([number])
    assert (await plugin.status([number]))[number] in (ElementState.WAITING, ElementState.RUNNING)
    await plugin.cancel([number])


async def test_a_pilot_that_can_never_start_is_given_up_and_told(
    slurm_cluster: SlurmCluster, secrets: Path, launch: Launcher
) -> None:
    """The partition's time limit is a minute, and pilots ask for ten."""
    plugin = by_login(slurm_cluster, secrets, partition="minute")
    number = await submitted(plugin, launch())
    await reaches(plugin, number, ElementState.FAILED)
    assert f"Slurm says of job {number}" in (await plugin.output([number]))[number]


async def test_what_slurm_refuses_is_told(
    slurm_cluster: SlurmCluster, secrets: Path, rest_secrets: Path, launch: Launcher
) -> None:
    nowhere = {"partition": "no-such-partition"}
    for plugin in (by_login(slurm_cluster, secrets, **nowhere), by_rest(slurm_cluster, rest_secrets, **nowhere)):
        (answer,) = await plugin.submit([launch()])
        assert answer.external_id is None
        assert "nvalid partition" in answer.error, answer.error


async def test_a_controller_that_is_away_is_told_and_pilots_live_on(
    slurm_cluster: SlurmCluster, secrets: Path, rest_secrets: Path, launch: Launcher
) -> None:
    plugins: list[ComputingPlugin] = [by_login(slurm_cluster, secrets), by_rest(slurm_cluster, rest_secrets)]
    numbers = [await submitted(plugin, launch("long")) for plugin in plugins]
    for plugin, number in zip(plugins, numbers, strict=True):
        await reaches(plugin, number, ElementState.RUNNING)
    with slurm_cluster.without("slurmctld"):
        for plugin, number in zip(plugins, numbers, strict=True):
            with pytest.raises(ElementUnavailable):
                await plugin.status([number])
        with pytest.raises(ElementUnavailable, match="squeue"):
            await plugins[0].submit([launch()])
    for plugin, number in zip(plugins, numbers, strict=True):
        await reaches(plugin, number, ElementState.RUNNING)
        await plugin.cancel([number])
        await reaches(plugin, number, *ENDED)


async def test_an_ended_job_is_told_when_the_controller_has_forgotten_it(launch: Launcher, tmp_path: Path) -> None:
    with slurm_cluster_that_forgets() as cluster:
        cluster.ssh.files_for_clients(tmp_path / "ssh", cluster.login)
        one, bad = launch(), launch("fail")
        plugin, rest = by_login(cluster, tmp_path / "ssh"), by_rest(cluster, with_token(cluster, tmp_path))
        numbers = [await submitted(plugin, each) for each in (one, bad)]
        deadline = time.monotonic() + 120
        while cluster.run("squeue", "-h", "--states=all"):
            assert time.monotonic() < deadline, "the controller forgets nothing"
            await asyncio.sleep(0.5)
        states = dict(zip(numbers, (ElementState.DONE, ElementState.FAILED), strict=True))
        await reaches(plugin, numbers[0], ElementState.DONE)
        assert await plugin.status([*numbers, "4711"]) == {**states, "4711": ElementState.VANISHED}
        assert await plugin.find([one.pilot_id]) == {one.pilot_id: numbers[0]}
        assert f"out {one.pilot_id}" in (await plugin.output(numbers))[numbers[0]]
        assert await rest.status(numbers) == dict.fromkeys(numbers, ElementState.VANISHED), "they are another element's"
        others = [await submitted(rest, launch()), await submitted(rest, launch("fail"))]
        while cluster.run("squeue", "-h", "--states=all"):
            assert time.monotonic() < deadline, "the controller forgets nothing"
            await asyncio.sleep(0.5)
        assert await rest.status(others) == dict(zip(others, states.values(), strict=True))


# -------------------------------------------------------------------------------------------------------- the REST way


async def test_a_token_is_read_anew_and_its_end_is_told(
    slurm_cluster: SlurmCluster, rest_secrets: Path, launch: Launcher
) -> None:
    plugin = by_rest(slurm_cluster, rest_secrets)
    good = (rest_secrets / "token").read_text()
    head, _, signature = good.split(".")
    past = base64.urlsafe_b64encode(b'{"exp":1700000000,"sun":"ada"}').decode().rstrip("=")
    (rest_secrets / "token").write_text(f"{head}.{past}.{signature}")
    with pytest.raises(ElementRefused, match="token ended at 2023-11-14"):
        await plugin.submit([launch()])
    (rest_secrets / "token").write_text(f"SLURM_JWT={good}\n")
    await plugin.cancel([await submitted(plugin, launch())])
    (rest_secrets / "token").chmod(0o644)
    with pytest.raises(BadOptions, match="token_file: others may read"):
        await plugin.submit([launch()])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": "a b"}, "partition"),
        ({"gres": "gpu;rm -rf"}, "gres"),
        ({"directory": "relative"}, "directory"),
        ({"directory": "/a/%j"}, "directory"),
        ({"environment": {"SPINOR_LAUNCH": "x"}}, "SPINOR_LAUNCH"),
        ({"setup": ["a\nb"]}, "setup"),
        ({"extra": ["--wrap=x"]}, r"extra\[0\]: --wrap"),
        ({"extra": ["--nice=1", "-n 2"]}, r"extra\[1\]"),
        ({"ssh": {"user": "ada", "key_file": "id"}}, "host is missing"),
        ({"host": "login", "ssh": {"user": "ada"}}, "key_file"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadOptions, match=message):
        element({"directory": "/x", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "http://slurm.example:6820"}, "https"),
        ({"user": "ada; id"}, "user"),
        ({"token_file": "../../keys/a"}, "token_file"),
        ({"extra": {"script": "x"}}, r"extra\.script"),
    ],
)
def test_wrong_options_of_the_rest_way_are_named(options: dict[str, object], message: str) -> None:
    given = {"url": "https://slurm.example:6820", "user": "ada", "token_file": "t", "directory": "/x", **options}
    with pytest.raises(BadOptions, match=message):
        SlurmRestComputing(ElementSettings(name="rest", site="CLUSTER", options=given, directory=Path("/nonexistent")))


# --------------------------------------------------------------------------------------------------------------- tools


def slurm_cluster_that_forgets() -> AbstractContextManager[SlurmCluster]:
    return slurm_cluster(Size(min_job_age_s=2))


async def submitted(plugin: ComputingPlugin, one: PilotLaunch) -> str:
    (answer,) = await plugin.submit([one])
    assert answer.external_id, answer.error
    return answer.external_id


async def held(plugin: SlurmComputing, one: PilotLaunch) -> str:
    """What a worker leaves that dies right after sbatch."""
    before = {job.job_id for job in await plugin._queued()}
    assert await plugin._sbatch([(plugin._names.of(one), one)]) == {}
    (made,) = {job.job_id for job in await plugin._queued()} - before
    return str(made)


async def reaches(plugin: ComputingPlugin, number: str, *states: ElementState) -> None:
    deadline = time.monotonic() + 90
    while (said := (await plugin.status([number])).get(number)) not in states:
        assert time.monotonic() < deadline, f"job {number} is {said}"
        await asyncio.sleep(0.2)


def readable_with(secret: bytes, place: Path) -> list[Path]:
    """Files below this place that have the secret, and that any account may read, with all directories above them."""
    found = []
    for directory, below, names in os.walk(place):
        below[:] = [name for name in below if (Path(directory) / name).stat().st_mode & 0o001]
        for path in (Path(directory) / name for name in names):
            if path.is_file() and path.stat().st_mode & 0o004 and secret in path.read_bytes():
                found.append(path)
    return found
