"""Pilots on nodes that see no network: their jobs come with them, and what they leave is handed on.

The node is a network namespace with no interface that is up; only root, or a user who may make namespaces, has one.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from spinor.blobs import Blobs
from spinor.catalog import service as catalog
from spinor.configuration import service as configuration
from spinor.jobs import service as jobs
from spinor.jobs.models import CommandJobs, JobSpec, JobStatus, OutputData
from spinor.jobs.sandboxes.store import Owner
from spinor.pilots.chores import submit_pilots
from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BadOptions, ElementSettings
from spinor.pilots.plugins.push import PushComputing
from spinor.types import LFN
from spinor_pilot import system
from tests.conftest import WORLD

from .conftest import Site, until
from .test_data import body, packed
from .test_running import ENDED, script

_HAS_NAMESPACES = shutil.which("unshare") is not None and (
    subprocess.run(["unshare", "--user", "--map-root-user", "--net", "true"], capture_output=True).returncode == 0
)
pytestmark = pytest.mark.skipif(not _HAS_NAMESPACES, reason="this machine lends nobody a network namespace")
_ELEMENT = """      local-ce:
        plugin: push
        cores: 2
        memory_bytes: 4GB
        wall_s: 2h
        max_pilots: 4
        vos: [astro, bio]
        options:
          plugin: {plugin}
          poll_s: 0.2
          {more}
          options: {options}
"""


def without_network(directory: Path) -> Path:
    """A Python whose processes are on a node of their own, with no network."""
    program = directory / "python-without-network"
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    program.write_text(f'#!/bin/sh\nexec unshare {" ".join(own)} --net -- {sys.executable} "$@"\n')
    program.chmod(0o755)
    return program


async def push(site: Site, plugin: str, options: Mapping[str, object], more: str = "") -> None:
    """Let the element be one behind this plugin, whose nodes see no network."""
    begin = WORLD.index("      local-ce:")
    end = WORLD.index("    storage_elements:")
    element = _ELEMENT.format(plugin=plugin, options=json.dumps(options), more=more)
    text = WORLD[:begin] + element.replace("{", "{{").replace("}", "}}") + WORLD[end:]
    async with site.context.db.transaction() as tx:
        await configuration.apply(tx, text.format(root=site.world.storage_root.parent), author="tests")


@pytest.fixture
async def pushing(site: Site, tmp_path: Path) -> AsyncIterator[Site]:
    await push(site, "local", {"python": str(without_network(tmp_path)), "grace_s": 2})
    yield site
    await cancel_all(site)


async def cancel_all(site: Site) -> None:
    """End what a test left, on the node and here."""
    homes = site.context.settings.ce_dir / "local-ce"
    plugin = PushComputing(
        ElementSettings(name="local-ce", site="LOCAL", options={"plugin": "local", "grace_s": 20}, directory=homes)
    )
    names = [home.name for home in homes.glob("pilot-*")]

    async def gone() -> bool:
        await plugin.cancel(names)
        return not {ElementState.WAITING, ElementState.RUNNING} & set((await plugin.status(names)).values())

    await until(gone, 60)


async def test_a_job_sees_no_network_and_everything_else_is_as_ever(pushing: Site) -> None:
    site, ada = pushing, pushing.world.ada
    archive = packed("look.sh", "#!/bin/sh\ngrep -o '^ *[a-z0-9]*:' /proc/net/dev; tail -n +2 /proc/net/route\n")
    blobs = Blobs.of(site.context.settings)
    sandbox = await jobs.receive_sandbox(site.context.db, blobs, Owner(ada.vo_id, ada.user_id), body(archive))
    (job_id,) = await site.submit(
        ada,
        JobSpec(
            executable="/bin/sh",
            arguments=["-c", "sh look.sh; echo oops >&2; echo kept >out.txt; exit 3"],
            input_sandboxes=[sandbox.sandbox_id],
            output_sandbox=["*.txt", "*.root"],
        ),
    )
    await submit_pilots(site.context, {})
    job = await site.until_job(ada, job_id, *ENDED, timeout_s=60)
    assert (job.status, job.exit_code) == (JobStatus.FAILED, 3)
    # There is the loopback interface, which is down, and no route anywhere.
    assert (await site.log(job_id)).split() == ["lo:"]
    assert await site.log(job_id, "stderr") == "oops\n"
    assert job.output_sandbox is not None
    assert job.output_sandbox.missing == ["*.root"]


async def test_data_goes_in_and_out(pushing: Site) -> None:
    site, ada = pushing, pushing.world.ada
    outputs = [
        OutputData(path="r é.txt", lfn="/astro/run/r é.txt", se="local-se"),
        OutputData(path="part-*.dat", lfn="/astro/run", se="local-se"),
    ]
    (first,) = await site.submit(
        ada, script("echo result >'r é.txt'; echo 1 >part-1.dat; echo 2 >part-2.dat", output_data=outputs)
    )
    await submit_pilots(site.context, {})
    job = await site.until_job(ada, first, *ENDED, timeout_s=60)
    assert job.status is JobStatus.DONE, job.minor_status
    names = ["r é.txt", "part-1.dat", "part-2.dat"]
    async with site.context.db.transaction() as tx:
        stats = await catalog.stat_files(tx, ada, [LFN(f"/astro/run/{name}") for name in names])
    assert [stat.size_bytes for stat in stats] == [7, 2, 2]
    (second,) = await site.submit(
        ada, script("cat 'r é.txt' part-*", input_data=[f"/astro/run/{name}" for name in names])
    )
    await submit_pilots(site.context, {})
    assert (await site.until_job(ada, second, *ENDED, timeout_s=60)).status is JobStatus.DONE
    assert await site.log(second) == "result\n1\n2\n"


async def test_damaged_input_data_is_told_and_nothing_is_sent(pushing: Site) -> None:
    site, ada = pushing, pushing.world.ada
    output = [OutputData(path="x", lfn="/astro/x", se="local-se")]
    (first,) = await site.submit(ada, script("echo good >x", output_data=output))
    await submit_pilots(site.context, {})
    assert (await site.until_job(ada, first, *ENDED, timeout_s=60)).status is JobStatus.DONE
    (replica,) = [path for path in site.world.storage_root.rglob("*") if path.is_file()]
    replica.chmod(0o644)
    replica.write_text("bad!\n")
    (second,) = await site.submit(ada, script("cat x", input_data=["/astro/x"]))
    await submit_pilots(site.context, {})

    async def told() -> bool:
        async with site.context.db.transaction() as tx:
            history = await jobs.job_history(tx, ada, second)
        return "adler32" in " ".join(entry.reason for entry in history)

    await until(told, 60)


async def test_a_kill_reaches_the_node(pushing: Site) -> None:
    site, ada = pushing, pushing.world.ada
    seconds = str(400_000 + os.getpid())
    (job_id,) = await site.submit(ada, script(f"exec sleep {seconds}"))
    await submit_pilots(site.context, {})

    async def sleeps() -> bool:
        return any(f"sleep\0{seconds}".encode() in command(process.pid) for process in system.processes())

    await until(sleeps, 60)
    assert (await site.job(ada, job_id)).status is JobStatus.RUNNING
    await jobs.kill_jobs(site.context.db, ada, CommandJobs(job_ids=[job_id]))

    async def is_gone() -> bool:
        return not await sleeps()

    await until(is_gone, 60)
    (after,) = await site.submit(ada, script("echo the pilot lives"))
    await site.until_job(ada, after, *ENDED, timeout_s=60)
    assert (await site.job(ada, job_id)).status is JobStatus.KILLED


async def test_a_cancelled_pilot_ends_the_one_on_the_node_and_its_job_waits_again(pushing: Site) -> None:
    site, ada = pushing, pushing.world.ada
    seconds = str(500_000 + os.getpid())
    (job_id,) = await site.submit(ada, script(f"exec sleep {seconds}"))
    await submit_pilots(site.context, {})

    async def sleeps() -> bool:
        return any(f"sleep\0{seconds}".encode() in command(process.pid) for process in system.processes())

    await until(sleeps, 60)
    await cancel_all(site)
    assert not await sleeps()
    job = await site.until_job(ada, job_id, JobStatus.WAITING, timeout_s=60)
    assert job.status is JobStatus.WAITING


async def test_nothing_secret_goes_to_the_node(pushing: Site) -> None:
    site, ada = pushing, pushing.world.ada
    seconds = str(600_000 + os.getpid())
    (job_id,) = await site.submit(ada, script(f"cat $BEARER_TOKEN_FILE; exec sleep {seconds}"))
    await submit_pilots(site.context, {})
    await site.until_job(ada, job_id, JobStatus.RUNNING, timeout_s=60)
    behind = site.context.settings.ce_dir / "local-ce" / "behind"
    files = [path for path in behind.rglob("*") if path.is_file()]
    assert any(path.name == "spinor-pilot.pyz" for path in files)
    for path in files:
        assert b"eyJ" not in path.read_bytes(), path  # So begins every token of this service, and every JWT.


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"plugin": "push"}, "plugin"),
        ({"plugin": "local", "jobs": 0}, "jobs"),
        ({"plugin": "local", "options": {"colour": "red"}}, "colour"),
        ({}, "plugin"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], word: str, tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match=word):
        PushComputing(ElementSettings(name="far", site="FAR", options=options, directory=tmp_path))
