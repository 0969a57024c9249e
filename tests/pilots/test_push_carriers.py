"""Jobs for nodes without network, brought there by a real Slurm and by real SSH servers.

The nodes' Python is one without network, as far as this machine lends namespaces to the accounts of pilots.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spinor.blobs import Blobs
from spinor.catalog import service as catalog
from spinor.jobs import service as jobs
from spinor.jobs.models import CommandJobs, JobSpec, JobStatus, OutputData
from spinor.jobs.sandboxes.store import Owner
from spinor.pilots.chores import submit_pilots
from spinor.types import LFN
from spinor_pilot import system
from tests.servers.slurm import USER, SlurmCluster
from tests.servers.sshd import SSHServer, SSHServers, ssh_agent

from .conftest import Site, until
from .test_data import body, packed
from .test_push import _HAS_NAMESPACES, cancel_all, command, push
from .test_running import ENDED, script

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not _HAS_NAMESPACES, reason="this machine lends nobody a network namespace"),
]
SSH = {"user": USER, "key_file": "id"}


def without_network(directory: Path) -> str:
    """A Python for accounts that cannot look into the tests' own."""
    program = directory / "python-without-network"
    program.write_text('#!/bin/sh\nexec unshare --user --map-root-user --net -- python3 "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.fixture
async def slurm(site: Site, slurm_cluster: SlurmCluster) -> AsyncIterator[Site]:
    python = without_network(slurm_cluster.home)
    conf, directory = slurm_cluster.settings, slurm_cluster.place / "pushed"
    await push(site, "slurm", {"slurm_conf": str(conf), "directory": str(directory), "python": python, "grace_s": 1})
    yield site
    await cancel_all(site)
    assert not list(directory.glob("*.pyz*"))


@pytest.fixture
async def slurm_by_ssh(site: Site, slurm_cluster: SlurmCluster) -> AsyncIterator[Site]:
    slurm_cluster.ssh.files_for_clients(site.context.settings.data_dir / "secrets" / "computing", slurm_cluster.login)
    python, directory = without_network(slurm_cluster.home), slurm_cluster.home / "pushed by ssh"
    host = f"localhost:{slurm_cluster.login.port}"
    options = {"host": host, "ssh": SSH, "directory": str(directory), "python": python, "grace_s": 1}
    await push(site, "slurm", options)
    yield site
    await cancel_all(site)
    assert not list(directory.glob("*.pyz*"))


@pytest.fixture(scope="module")
def host(ssh_servers: SSHServers) -> Iterator[SSHServer]:
    with ssh_servers.serving("far") as server:
        yield server


@pytest.fixture
async def ssh(site: Site, ssh_servers: SSHServers, host: SSHServer, tmp_path: Path) -> AsyncIterator[Site]:
    ssh_servers.files_for_clients(site.context.settings.data_dir / "secrets" / "computing", host)
    home = ssh_servers.accounts.of[USER].home
    hosts = {f"localhost:{host.port}": 2}
    options = {"hosts": hosts, "ssh": SSH, "directory": tmp_path.name, "python": without_network(home), "grace_s": 1}
    await push(site, "ssh", options)
    yield site
    await cancel_all(site)
    assert not list((home / tmp_path.name).rglob(".parcel-*"))


@pytest.mark.peer("sshd")
async def test_the_key_may_be_an_agents(site: Site, ssh_servers: SSHServers, host: SSHServer, tmp_path: Path) -> None:
    ssh_servers.files_for_clients(site.context.settings.data_dir / "secrets" / "computing", host)
    options = {
        "hosts": {f"localhost:{host.port}": 1}, "ssh": {"user": USER, "agent": True}, "directory": tmp_path.name,
        "python": without_network(ssh_servers.accounts.of[USER].home),
    }  # fmt: skip
    with ssh_agent(ssh_servers.key) as agent:
        await push(site, "ssh", options, f"environment: {{SSH_AUTH_SOCK: {agent}}}")
        (job_id,) = await site.submit(site.world.ada, script("echo there"))
        await submit_pilots(site.context, {})
        job = await site.until_job(site.world.ada, job_id, *ENDED, timeout_s=120)
        await cancel_all(site)
    assert job.status is JobStatus.DONE, job.minor_status


@pytest.fixture(
    params=[
        pytest.param("slurm", marks=pytest.mark.peer("slurm")),
        pytest.param("slurm_by_ssh", marks=[pytest.mark.peer("slurm"), pytest.mark.peer("sshd")]),
        pytest.param("ssh", marks=pytest.mark.peer("sshd")),
    ]
)
def carried(request: pytest.FixtureRequest) -> Site:
    site: Site = request.getfixturevalue(request.param)
    return site


async def test_a_large_parcel_goes_there_and_its_results_come_back(carried: Site) -> None:
    site, ada = carried, carried.world.ada
    # More than Slurm takes of a script.
    archive = packed("large.txt", os.urandom(3_000_000).hex())
    blobs = Blobs.of(site.context.settings)
    sandbox = await jobs.receive_sandbox(site.context.db, blobs, Owner(ada.vo_id, ada.user_id), body(archive))
    # There is the loopback interface, which is down, and no route anywhere.
    look = "grep -o '^ *[a-z0-9]*:' /proc/net/dev; tail -n +2 /proc/net/route"
    (job_id,) = await site.submit(
        ada,
        JobSpec(
            executable="/bin/sh",
            arguments=["-c", f"{look}; wc -c <large.txt; cp large.txt back.dat; echo kept >out.txt"],
            input_sandboxes=[sandbox.sandbox_id],
            output_sandbox=["*.txt"],
            output_data=[OutputData(path="back.dat", lfn="/astro/back.dat", se="local-se")],
        ),
    )
    await submit_pilots(site.context, {})
    job = await site.until_job(ada, job_id, *ENDED, timeout_s=120)
    assert job.status is JobStatus.DONE, job.minor_status
    assert (await site.log(job_id)).split() == ["lo:", "6000000"]
    assert job.output_sandbox is not None
    async with site.context.db.transaction() as tx:
        (stat,) = await catalog.stat_files(tx, ada, [LFN("/astro/back.dat")])
    assert stat.size_bytes == 6_000_000


async def test_a_kill_reaches_the_node(carried: Site) -> None:
    site, ada = carried, carried.world.ada
    seconds = str(700_000 + os.getpid())
    (job_id,) = await site.submit(ada, script(f"exec sleep {seconds}"))
    await submit_pilots(site.context, {})

    async def sleeps() -> bool:
        return any(f"sleep\0{seconds}".encode() in command(process.pid) for process in system.processes())

    await until(sleeps, 120)
    await jobs.kill_jobs(site.context.db, ada, CommandJobs(job_ids=[job_id]))

    async def is_gone() -> bool:
        return not await sleeps()

    await until(is_gone, 120)
    assert (await site.job(ada, job_id)).status is JobStatus.KILLED
