"""The local computing element, under the contract that all elements are held to."""

import ast
import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BadOptions, ElementSettings, UnknownPlugin, plugin_named
from spinor.pilots.plugins import processes
from spinor.pilots.plugins.local import LocalComputing, described
from spinor.testing.computing_contract import ComputingContract, Launcher, Maker


def element(directory: Path, **more: object) -> LocalComputing:
    return LocalComputing(
        ElementSettings(name="here", site="LOCAL", options={"grace_s": 1, **more}, directory=directory / "computing")
    )


class TestLocal(ComputingContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Maker:
        return lambda **options: element(tmp_path, **options)

    @pytest.fixture
    def plugin(self, tmp_path: Path) -> LocalComputing:
        return element(tmp_path)

    async def test_a_killed_pilot_has_vanished(self, plugin: LocalComputing, launch: Launcher) -> None:
        external_id = await self.submit(plugin, launch("long"))
        await self.until_output(plugin, external_id, "out ")
        stat = (plugin.base / external_id / "process").read_text()
        os.killpg(int(stat.rpartition(")")[2].split()[2]), signal.SIGKILL)
        await self.until(plugin, external_id, ElementState.VANISHED)

    async def test_a_reused_process_id_is_not_taken_for_the_pilot(
        self, plugin: LocalComputing, launch: Launcher
    ) -> None:
        external_id = await self.submit(plugin, launch())
        await self.until(plugin, external_id, ElementState.DONE)
        home = plugin.base / external_id
        (home / "exit-code").unlink()
        text = (home / "process").read_text()
        (home / "process").write_text(text.replace(text.split()[0], str(os.getpid()), 1))
        assert (await plugin.status([external_id]))[external_id] is ElementState.VANISHED
        await plugin.cancel([external_id])  # It would end this test.

    async def test_nobody_waits_for_the_grace(self, tmp_path: Path, launch: Launcher) -> None:
        """The first call asks, calls within the grace ask again, and the first one after it forces."""
        patient, strict = element(tmp_path, grace_s=3600), element(tmp_path, grace_s=0)
        external_id = await self.submit(patient, launch("long", "stubborn"))
        await self.until_output(patient, external_id, "out ")
        for _ in range(2):
            await patient.cancel([external_id])
            assert (await patient.status([external_id]))[external_id] is ElementState.RUNNING
        await strict.cancel([external_id])
        await self.until(patient, external_id, ElementState.VANISHED)

    async def test_where_nothing_can_be_written_a_pilot_is_forced_at_once(
        self, plugin: LocalComputing, launch: Launcher
    ) -> None:
        external_id = await self.submit(plugin, launch("long", "stubborn"))
        await self.until_output(plugin, external_id, "out ")
        (plugin.base / external_id / "asked-to-stop").mkdir()
        await plugin.cancel([external_id])
        await self.until(plugin, external_id, ElementState.VANISHED)

    async def test_a_parcel_is_linked_and_a_bundle_of_many_is_copied(
        self, plugin: LocalComputing, launch: Launcher
    ) -> None:
        """What a pilot does to its parcel is seen by nobody else; and a parcel may be too large to be copied."""
        ones = [launch(), launch()]
        plugin.base.mkdir()
        parcel = Path(shutil.copy(ones[0].bundle, plugin.base / ".parcel-1"))
        for one, bundle, names in ((ones[0], parcel, 2), (ones[1], ones[1].bundle, 1)):
            here = processes.Processes(plugin.base, {})
            (started,) = await asyncio.to_thread(here.submit, [described(one)], bundle)
            assert (plugin.base / started["name"] / processes.BUNDLE).stat().st_nlink == names
            await self.until(plugin, started["name"], ElementState.DONE)

    async def test_a_parcel_is_copied_where_there_are_no_links(
        self, plugin: LocalComputing, launch: Launcher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def link(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "link", link)
        one = launch()
        plugin.base.mkdir()
        parcel = Path(shutil.copy(one.bundle, plugin.base / ".parcel-1"))
        here = processes.Processes(plugin.base, {})
        (started,) = await asyncio.to_thread(here.submit, [described(one)], parcel)
        await self.until(plugin, started["name"], ElementState.DONE)

    async def test_what_was_left_is_removed_after_a_day_in_whatever_way_it_ended(
        self, plugin: LocalComputing, launch: Launcher
    ) -> None:
        ended, killed, running = [await self.submit(plugin, launch(*plan)) for plan in ([], ["long"], ["long"])]
        await self.until(plugin, ended, ElementState.DONE)
        await self.until_output(plugin, killed, "out ")
        stat = (plugin.base / killed / "process").read_text()
        os.killpg(int(stat.rpartition(")")[2].split()[2]), signal.SIGKILL)
        await self.until(plugin, killed, ElementState.VANISHED)
        halves = ["pilot-1", ".pilot-2.0123456789abcdef"]  # Their worker was killed; the secret is in them.
        for name in [*halves, "pilot-tools"]:
            (plugin.base / name).mkdir()
            (plugin.base / name / "launch.json").write_text("{}")
        try:
            for day, kept in ((0, [ended, killed, running, *halves]), (2, [running])):
                for path in plugin.base.rglob("*"):
                    past = path.lstat().st_mtime - 86_400 * day
                    os.utime(path, (past, past), follow_symlinks=False)
                await self.until(plugin, await self.submit(plugin, launch()), ElementState.DONE)
                there = {path.name for path in plugin.base.iterdir()} & {ended, killed, running, *halves, "pilot-tools"}
                assert there == {*kept, "pilot-tools"}
        finally:
            await self.stop(plugin, running)

    async def test_what_still_changes_is_kept(self, plugin: LocalComputing, launch: Launcher) -> None:
        external_id = await self.submit(plugin, launch())
        await self.until(plugin, external_id, ElementState.DONE)
        for path in [*(plugin.base / external_id).iterdir(), plugin.base / external_id]:
            os.utime(path, (0, 0))
        (plugin.base / external_id / "stdout").write_text("a late word")
        await self.submit(plugin, launch())
        assert "a late word" in (await plugin.output([external_id]))[external_id]

    async def test_an_earlier_services_pilot_of_the_same_number_makes_room(
        self, plugin: LocalComputing, launch: Launcher
    ) -> None:
        one = launch()
        external_id = await self.submit(plugin, one)
        await self.until(plugin, external_id, ElementState.DONE)
        other = launch("fail")
        again = type(other)(**{**{f: getattr(other, f) for f in other.__struct_fields__}, "pilot_id": one.pilot_id})
        assert await self.submit(plugin, again) == external_id
        await self.until(plugin, external_id, ElementState.FAILED)

    async def test_a_full_or_forbidden_directory_is_told(self, tmp_path: Path, launch: Launcher) -> None:
        (tmp_path / "computing").mkdir()
        plugin = element(tmp_path)
        one = launch()
        (plugin.base / f"pilot-{one.pilot_id}").write_text("in the way")
        (submitted,) = await plugin.submit([one])
        assert submitted.external_id is None
        assert f"pilot-{one.pilot_id}" in submitted.error


def test_wrong_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match="grace_sec"):
        LocalComputing(ElementSettings(name="here", site="LOCAL", options={"grace_sec": 1}, directory=tmp_path))


def test_an_unknown_plugin_is_explained() -> None:
    with pytest.raises(UnknownPlugin, match=r"'slurmy'.*known: .*local.*spinor\.computing"):
        plugin_named("slurmy")


def test_what_is_sent_to_hosts_runs_there() -> None:
    """With Python 3.9 and its standard library, whatever the locale."""
    tree = ast.parse(Path(processes.__file__).read_text(encoding="ascii"), feature_version=(3, 9))
    named = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    named += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert {name.partition(".")[0] for name in named} <= sys.stdlib_module_names
