"""What every computing-element plugin must do, as tests that its author runs against the real thing.

    class TestSlurm(ComputingContract):
        @pytest.fixture
        def plugin(self, tmp_path): return SlurmElement(ElementSettings(...))

The suite submits small Python programs in place of the pilot: they read their launch file as a pilot does, say a few
words on stdout and stderr, and end in the way a test asks for. `patience_s` is how long the element may need to start
or to stop one.
"""

import asyncio
import itertools
import secrets
import time
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import ComputingPlugin, PilotLaunch

_STAND_IN = """
import json, os, signal, sys, time
with open(sys.argv[1]) as file:
    launch = json.load(file)
plan = launch["tags"]
if "stubborn" in plan:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("out", launch["pilot_id"], launch["cores"], oct(os.stat(sys.argv[1]).st_mode & 0o777), flush=True)
print("arguments", sys.argv, flush=True)
print("err", launch["pilot_id"], file=sys.stderr, flush=True)
print("variables", sorted(os.environ), flush=True)
if "long" in plan:
    time.sleep(300)
if "fail" in plan:
    sys.exit(3)
"""
_first = itertools.count(int(time.time()) % 100_000 * 1000)


class Launcher(Protocol):
    def __call__(self, *plan: str) -> PilotLaunch: ...


class ComputingContract:
    """Inherit from this, and give a `plugin` fixture."""

    patience_s = 10.0

    @pytest.fixture
    def launch(self, tmp_path: Path) -> Launcher:
        """Launches of the stand-in; `plan` says what it shall do."""
        bundle = tmp_path / "bundle" / "stand-in.pyz"
        bundle.parent.mkdir()
        with zipfile.ZipFile(bundle, "w") as archive:
            archive.writestr("__main__.py", _STAND_IN)

        def make(*plan: str) -> PilotLaunch:
            return PilotLaunch(
                pilot_id=next(_first),
                secret=secrets.token_urlsafe(32),
                url="https://localhost:1",
                ca_pem="",
                vo="astro",
                cores=1,
                memory_bytes=10**9,
                wall_s=600,
                tags=list(plan),
                bundle=bundle,
            )

        return make

    @pytest.fixture
    def restarted(self, plugin: ComputingPlugin) -> ComputingPlugin:
        """The same element as another worker sees it. Override where the plugin cannot be made from itself."""
        return plugin

    async def test_many_pilots_are_submitted_in_one_call(self, plugin: ComputingPlugin, launch: Launcher) -> None:
        launches = [launch() for _ in range(3)]
        submitted = await plugin.submit(launches)
        assert {each.pilot_id for each in submitted} == {each.pilot_id for each in launches}
        assert all(each.external_id for each in submitted)
        assert len({each.external_id for each in submitted}) == 3
        for each in submitted:
            assert each.external_id
            await self.until(plugin, each.external_id, ElementState.DONE)

    async def test_no_pilots_are_no_error(self, plugin: ComputingPlugin) -> None:
        assert list(await plugin.submit([])) == []
        assert dict(await plugin.status([])) == {}
        assert dict(await plugin.output([])) == {}
        assert dict(await plugin.find([])) == {}
        await plugin.cancel([])

    async def test_a_pilot_is_not_started_twice(self, plugin: ComputingPlugin, launch: Launcher) -> None:
        one = launch()
        first = await self.submit(plugin, one)
        assert await self.submit(plugin, one) == first
        await self.until(plugin, first, ElementState.DONE)
        assert await self.submit(plugin, one) == first
        await asyncio.sleep(1)
        assert (await plugin.output([first]))[first].count("out ") == 1

    async def test_two_workers_at_once_start_it_once(
        self, plugin: ComputingPlugin, restarted: ComputingPlugin, launch: Launcher
    ) -> None:
        one = launch()
        first, second = await asyncio.gather(self.submit(plugin, one), self.submit(restarted, one))
        assert first == second
        await self.until(plugin, first, ElementState.DONE)
        assert (await plugin.output([first]))[first].count("out ") == 1

    async def test_a_pilot_is_found_by_its_number(
        self, plugin: ComputingPlugin, restarted: ComputingPlugin, launch: Launcher
    ) -> None:
        one, never = launch("long"), launch()
        external_id = await self.submit(plugin, one)
        try:
            found = await restarted.find([one.pilot_id, never.pilot_id])
            assert dict(found) == {one.pilot_id: external_id}
        finally:
            await plugin.cancel([external_id])

    async def test_exit_codes_are_told_apart(self, plugin: ComputingPlugin, launch: Launcher) -> None:
        good, bad = await self.submit(plugin, launch()), await self.submit(plugin, launch("fail"))
        await self.until(plugin, good, ElementState.DONE)
        await self.until(plugin, bad, ElementState.FAILED)

    async def test_a_running_pilot_is_seen_and_stopped(
        self, plugin: ComputingPlugin, restarted: ComputingPlugin, launch: Launcher
    ) -> None:
        external_id = await self.submit(plugin, launch("long"))
        await self.until(restarted, external_id, ElementState.RUNNING)
        await self.until_output(plugin, external_id, "out ")
        await restarted.cancel([external_id])
        await self.until_gone(plugin, external_id)

    async def test_force_stops_a_pilot_that_ignores_the_request(
        self, plugin: ComputingPlugin, launch: Launcher
    ) -> None:
        external_id = await self.submit(plugin, launch("long", "stubborn"))
        await self.until_output(plugin, external_id, "out ")
        await plugin.cancel([external_id])
        await self.until_gone(plugin, external_id)

    async def test_what_is_unknown_is_passed_over(self, plugin: ComputingPlugin, launch: Launcher) -> None:
        one = launch()
        known = await self.submit(plugin, one)
        strangers = ["no-such-pilot", "../../etc", "", "x" * 300]
        states = await plugin.status([known, *strangers])
        assert known in states
        for stranger in strangers:
            assert states.get(stranger, ElementState.UNKNOWN) in (ElementState.UNKNOWN, ElementState.VANISHED)
        await plugin.cancel(strangers)
        assert not any((await plugin.output(strangers)).values())
        await self.until(plugin, known, ElementState.DONE)

    async def test_output_holds_both_streams(self, plugin: ComputingPlugin, launch: Launcher) -> None:
        one = launch()
        external_id = await self.submit(plugin, one)
        await self.until(plugin, external_id, ElementState.DONE)
        text = (await plugin.output([external_id]))[external_id]
        assert f"out {one.pilot_id} 1" in text
        assert f"err {one.pilot_id}" in text

    async def test_the_secret_is_nobody_elses(self, plugin: ComputingPlugin, launch: Launcher) -> None:
        """The launch file is the owner's alone, and the secret is neither in the arguments nor in a variable's name."""
        one = launch()
        assert one.secret not in repr(one)
        external_id = await self.submit(plugin, one)
        await self.until(plugin, external_id, ElementState.DONE)
        text = (await plugin.output([external_id]))[external_id]
        assert "0o600" in text
        assert one.secret not in text

    async def test_a_pilot_gets_nothing_of_the_workers_environment(
        self, plugin: ComputingPlugin, launch: Launcher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SPINOR_DATABASE_URL", "postgresql://somebody:secret@nowhere/spinor")
        external_id = await self.submit(plugin, launch())
        await self.until(plugin, external_id, ElementState.DONE)
        assert "SPINOR_DATABASE_URL" not in (await plugin.output([external_id]))[external_id]

    async def submit(self, plugin: ComputingPlugin, launch: PilotLaunch) -> str:
        (submitted,) = await plugin.submit([launch])
        assert submitted.external_id, submitted.error
        return submitted.external_id

    async def until(self, plugin: ComputingPlugin, external_id: str, state: ElementState) -> None:
        async def there() -> bool:
            return (await plugin.status([external_id])).get(external_id) is state

        await self._wait(there, f"{external_id} is not {state}")

    async def until_gone(self, plugin: ComputingPlugin, external_id: str) -> None:
        async def gone() -> bool:
            state = (await plugin.status([external_id])).get(external_id)
            return state in (ElementState.DONE, ElementState.FAILED, ElementState.VANISHED)

        await self._wait(gone, f"{external_id} is still there")

    async def until_output(self, plugin: ComputingPlugin, external_id: str, text: str) -> None:
        async def there() -> bool:
            return text in (await plugin.output([external_id])).get(external_id, "")

        await self._wait(there, f"{external_id} does not say {text!r}")

    async def _wait(self, condition: Callable[[], Awaitable[bool]], message: str) -> None:
        end = time.monotonic() + self.patience_s
        while not await condition():
            assert time.monotonic() < end, message
            await asyncio.sleep(0.05)
