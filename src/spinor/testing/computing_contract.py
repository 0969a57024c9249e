"""What every computing-element plugin must do, as tests that its author runs against the real thing.

    class TestMine(ComputingContract):
        @pytest.fixture
        def make(self, tmp_path: Path) -> Maker:
            def made(**more: object) -> MyElement:
                options = {"host": "localhost", **more}
                return MyElement(ElementSettings(name="mine", site="HERE", options=options, directory=tmp_path))
            return made

The suite submits small Python programs in place of the pilot: they read their launch file as a pilot does, say a few
words on stdout and stderr, and end in the way a test asks for. What an element cannot do, its author says by the
variables of the class; `patience_s` is how long it may need to start or to stop a pilot. pytest-asyncio in its mode
`auto` runs the tests. How to write a plugin: docs/how-to/write-a-computing-plugin.md.
"""

import asyncio
import itertools
import logging
import secrets
import threading
import time
import zipfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BadOptions, ComputingPlugin, ElementUnavailable, PilotLaunch

ENDED = (ElementState.DONE, ElementState.FAILED, ElementState.VANISHED)
OUTPUT_BYTES = 64 * 1024

_STAND_IN = """
import json, os, signal, sys, time
with open(sys.argv[1]) as file:
    launch = json.load(file)
plan = launch["tags"]

def stop(*_):
    print("asked to stop", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in plan else stop)
print("out", launch["pilot_id"], launch["cores"], oct(os.stat(sys.argv[1]).st_mode & 0o777), flush=True)
print("arguments", sys.argv, flush=True)
print("err", launch["pilot_id"], file=sys.stderr, flush=True)
print("variables", sorted(os.environ), flush=True)

pid, told = os.getpid(), []
while pid > 1:
    try:
        for name in ("environ", "cmdline"):
            with open("/proc/%d/%s" % (pid, name), "rb") as file:
                if launch["secret"].encode() in file.read():
                    told.append("%s of %d" % (name, pid))
        with open("/proc/%d/stat" % pid) as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        break
print("processes that tell the secret:", told, flush=True)

if "chatty" in plan:
    for number in range(5000):
        print("line", number, "of many, to fill more than anybody wants to read", flush=number == 4999)
if "long" in plan:
    time.sleep(300)
if "fail" in plan:
    sys.exit(3)
"""
_first = itertools.count(int(time.time()) % 100_000 * 1000)


class Launcher(Protocol):
    def __call__(self, *plan: str) -> PilotLaunch: ...


class Maker(Protocol):
    def __call__(self, **options: Any) -> ComputingPlugin: ...


def launcher(directory: Path) -> Launcher:
    """Launches of the stand-in, whose file is made in this directory; `plan` says what it shall do."""
    bundle = directory / "bundle" / "stand-in.pyz"
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


class ComputingContract:
    """Inherit from this, and give a fixture `make`, or `plugin` and `restarted`."""

    patience_s: ClassVar[float] = 10.0
    # Options with which the element does not answer, and those with which pilots wait in its queue for ever.
    when_down: ClassVar[Mapping[str, Any] | None] = None
    when_waiting: ClassVar[Mapping[str, Any] | None] = None
    # Whether the element can still be asked for the output of a pilot that was cancelled.
    keeps_output_of_cancelled: ClassVar[bool] = True

    @pytest.fixture
    def make(self) -> Maker:
        """Makes the plugin of an element that works, with these options beside its own."""
        raise NotImplementedError("give a fixture `make`")

    @pytest.fixture
    def plugin(self, make: Maker) -> ComputingPlugin:
        return make()

    @pytest.fixture
    def restarted(self, make: Maker) -> ComputingPlugin:
        """The same element as another worker sees it."""
        return make()

    @pytest.fixture
    def launch(self, tmp_path: Path) -> Launcher:
        return launcher(tmp_path)

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
            await self.stop(plugin, external_id)

    @pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3])
    async def test_what_a_killed_worker_submitted_is_found(
        self, plugin: ComputingPlugin, restarted: ComputingPlugin, launch: Launcher, after_s: float
    ) -> None:
        """Whatever was carried out before the cut is found, and submitting anew starts nothing twice."""
        launches = [launch() for _ in range(2)]
        cut = asyncio.ensure_future(plugin.submit(launches))
        await asyncio.sleep(after_s)
        cut.cancel()
        with suppress(asyncio.CancelledError):
            await cut
        found = await restarted.find([each.pilot_id for each in launches])
        submitted = {each.pilot_id: each.external_id for each in await restarted.submit(launches)}
        assert found.items() <= submitted.items()
        for each in launches:
            external_id = submitted[each.pilot_id]
            assert external_id
            await self.until(restarted, external_id, ElementState.DONE)
            assert (await restarted.output([external_id]))[external_id].count("out ") == 1

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
        if self.keeps_output_of_cancelled:
            await self.until_output(plugin, external_id, "asked to stop")

    async def test_a_pilot_in_the_queue_is_cancelled(self, make: Maker, launch: Launcher) -> None:
        if self.when_waiting is None:
            pytest.skip("on this element no pilot waits")
        plugin = make(**self.when_waiting)
        external_id = await self.submit(plugin, launch())
        await self.until(plugin, external_id, ElementState.WAITING)
        await plugin.cancel([external_id])
        await self.until_gone(plugin, external_id)
        assert "out " not in (await plugin.output([external_id])).get(external_id, "")

    async def test_cancelling_what_has_ended_changes_nothing(self, plugin: ComputingPlugin, launch: Launcher) -> None:
        external_id = await self.submit(plugin, launch())
        await self.until(plugin, external_id, ElementState.DONE)
        await plugin.cancel([external_id])
        await plugin.cancel([external_id])
        assert (await plugin.status([external_id]))[external_id] is ElementState.DONE

    async def test_force_stops_a_pilot_that_ignores_the_request(
        self, plugin: ComputingPlugin, launch: Launcher
    ) -> None:
        external_id = await self.submit(plugin, launch("long", "stubborn"))
        await self.until_output(plugin, external_id, "out ")
        await self.stop(plugin, external_id)

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

    async def test_of_a_long_output_the_end_is_given(self, plugin: ComputingPlugin, launch: Launcher) -> None:
        external_id = await self.submit(plugin, launch("chatty"))
        await self.until(plugin, external_id, ElementState.DONE)
        await self.until_output(plugin, external_id, "line 4999")
        text = (await plugin.output([external_id]))[external_id]
        assert len(text) <= 2 * OUTPUT_BYTES  # Of stdout and of stderr.

    async def test_the_secret_is_nobody_elses(
        self, plugin: ComputingPlugin, launch: Launcher, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The launch file is its owner's alone. No list of processes, environment, log or output has the secret."""
        caplog.set_level(logging.DEBUG)
        one = launch()
        assert one.secret not in repr(one)
        with command_lines() as seen:
            external_id = await self.submit(plugin, one)
            await self.until(plugin, external_id, ElementState.DONE)
        text = (await plugin.output([external_id]))[external_id]
        assert "0o600" in text
        assert "processes that tell the secret: []" in text
        assert one.secret not in text
        assert one.secret not in caplog.text
        assert not [line for line in seen if one.secret.encode() in line]

    async def test_an_element_that_is_down_is_told(self, make: Maker, launch: Launcher) -> None:
        """It is no proof that a pilot is gone, and none that it was never submitted."""
        if self.when_down is None:
            pytest.skip("this element cannot be down")
        plugin, one = make(**self.when_down), launch()
        with pytest.raises(ElementUnavailable):
            await plugin.submit([one])
        with pytest.raises(ElementUnavailable):
            await plugin.find([one.pilot_id])
        external_id = await self.submit(make(), one)
        with pytest.raises(ElementUnavailable):
            await plugin.status([external_id])
        await self.until(make(), external_id, ElementState.DONE)

    def test_a_wrong_option_is_named(self, make: Maker) -> None:
        with pytest.raises(BadOptions, match="no_such_option"):
            make(no_such_option=1)
        with pytest.raises(BadOptions, match="tags"):
            make(tags={"not": "a list"})

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

        await self._wait(there, lambda: f"{external_id} is not {state}")

    async def until_gone(self, plugin: ComputingPlugin, external_id: str) -> None:
        async def gone() -> bool:
            state = (await plugin.status([external_id])).get(external_id)
            return state in ENDED

        await self._wait(gone, lambda: f"{external_id} is still there")

    async def stop(self, plugin: ComputingPlugin, external_id: str) -> None:
        """Cancel as the factory does: again and again, until the pilot is gone."""

        async def gone() -> bool:
            if (await plugin.status([external_id])).get(external_id) in ENDED:
                return True
            await plugin.cancel([external_id])
            await asyncio.sleep(0.2)
            return False

        await self._wait(gone, lambda: f"{external_id} is still there")

    async def until_output(self, plugin: ComputingPlugin, external_id: str, text: str) -> None:
        said = ""

        async def there() -> bool:
            nonlocal said
            said = (await plugin.output([external_id])).get(external_id, "")
            return text in said

        await self._wait(there, lambda: f"{external_id} does not say {text!r}, but: {said[-200:]!r}")

    async def _wait(self, condition: Callable[[], Awaitable[bool]], otherwise: Callable[[], str]) -> None:
        end = time.monotonic() + self.patience_s
        while not await condition():
            assert time.monotonic() < end, otherwise()
            await asyncio.sleep(0.05)


@contextmanager
def command_lines() -> Iterator[set[bytes]]:
    """The arguments of all processes that live on this machine meanwhile."""
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.005):
            for entry in Path("/proc").iterdir():
                if entry.name.isdecimal():
                    with suppress(OSError):
                        seen.add((entry / "cmdline").read_bytes())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()
