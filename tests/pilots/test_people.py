"""What people see of pilots, over HTTPS and through the command line."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from spinor import cli
from spinor.errors import NotFound, SpinorError
from spinor.jobs.models import JobSpec
from spinor.pilots import service
from spinor.pilots.models import Cancelled, CancelPilots, NewPilot, Pilot
from spinor.pilots.service import life

from .conftest import Site
from .test_enrolment import call, enrolled, new_pilot


async def test_pilots_are_listed_by_filter_and_page(site: Site) -> None:
    first = await new_pilot(site)
    server = await enrolled(site, first)
    for _ in range(2):
        async with site.context.db.pool.connection() as conn:
            await conn.execute("UPDATE pilots.pilot SET offer = NULL, offered_at = NULL")
        await new_pilot(site, JobSpec(executable="sleep", cores=2))
    assert server.token
    client = await site.client(site.world.alan)

    def listed(where: str) -> list[int]:
        with client:
            body = {"where": where, "sort": ["-pilot_id"]}
            return [pilot.pilot_id for pilot in client.pages("/api/pilots/search", body, Pilot)]

    everything = await asyncio.to_thread(listed, "")
    assert everything == sorted(everything, reverse=True)
    assert len(everything) >= 3
    assert first.pilot_id in everything
    assert await asyncio.to_thread(listed, "status=running") == [first.pilot_id]
    assert await asyncio.to_thread(listed, "computing_element=elsewhere") == []
    with pytest.raises(SpinorError, match="colour"):
        await asyncio.to_thread(listed, "colour=blue")


async def test_another_vos_pilots_do_not_exist(site: Site) -> None:
    pilot = await new_pilot(site)
    async with site.context.db.transaction() as tx:
        with pytest.raises(NotFound):
            await service.pilot(tx, site.world.bea, pilot.pilot_id)
        bea_as_admin = msgspec.structs.replace(site.world.ada_admin, vo_id=site.world.bea.vo_id)
        answer = await service.cancel_pilots(tx, bea_as_admin, [pilot.pilot_id], "")
    assert answer.done == []
    assert [refused.code for refused in answer.refused] == ["unknown-pilot"]


async def test_cancelling_is_for_administrators(site: Site) -> None:
    pilot = await new_pilot(site)
    body = CancelPilots(pilot_ids=[pilot.pilot_id, pilot.pilot_id])

    def cancel(client: object) -> Cancelled:
        with client:  # type: ignore[attr-defined]
            answer: Cancelled = client.post("/api/pilots/cancel", body, Cancelled)  # type: ignore[attr-defined]
        return answer

    with pytest.raises(SpinorError, match="pilots:manage"):
        await asyncio.to_thread(cancel, await site.client(site.world.alan))
    admin = await site.client(site.world.ada_admin)
    assert (await asyncio.to_thread(cancel, admin)).done == [pilot.pilot_id]
    again = await asyncio.to_thread(cancel, admin)
    assert [refused.code for refused in again.refused] == ["pilot-ended"]


async def sender(site: Site, pilot: NewPilot) -> Callable[[int, bytes], Awaitable[int]]:
    """Sends bytes of this pilot's own log; answers the position that the server expects next."""
    server = await enrolled(site, pilot)

    async def send(position: int, data: bytes) -> int:
        def once() -> int:
            try:
                return int(server.send("POST", f"/api/pilot/log?position={position}", data)["position"])
            finally:
                server.close()

        return await asyncio.to_thread(once)

    return send


async def test_the_log_is_kept_in_order_and_once(site: Site) -> None:
    pilot = await new_pilot(site)
    send = await sender(site, pilot)
    assert await send(0, b"one ") == 4
    assert await send(0, b"one ") == 4  # The answer was lost: said again, kept once.
    assert await send(2, b"e two ") == 8
    assert await send(100, b"gap") == 8  # Told where to go on.
    assert await send(8, b"\x00\xff") == 10
    async with site.context.db.transaction() as tx:
        assert await service.pilot_log(tx, site.world.alan, pilot.pilot_id, 0) == b"one two \x00\xff"
        assert await service.pilot_log(tx, site.world.alan, pilot.pilot_id, 5) == b"wo \x00\xff"
        assert await service.pilot_log(tx, site.world.alan, pilot.pilot_id, 10) == b""


async def test_past_its_limit_a_log_is_taken_and_forgotten(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "LOG_LIMIT_BYTES", 10)
    pilot = await new_pilot(site)
    send = await sender(site, pilot)
    assert await send(0, b"one two ") == 8
    assert await send(8, b"three ") == 14  # Of these, two are kept.
    assert await send(14, b"four ") == 19
    assert await send(19, b"five ") == 24  # Never back: the pilot would send the same bytes again and again.
    assert await send(8, b"three ") == 14  # The answer was lost.
    assert await send(0, b"one ") == 10
    async with site.context.db.transaction() as tx:
        assert await service.pilot_log(tx, site.world.alan, pilot.pilot_id, 0) == b"one two th"


async def test_a_goodbye_ends_the_pilot(site: Site) -> None:
    pilot = await new_pilot(site)
    server = await enrolled(site, pilot)
    for _ in range(2):
        await call(server, "POST", "/api/pilot/goodbye", {"reason": "no work for 15 s"})
    async with site.context.db.transaction() as tx:
        found = await service.pilot(tx, site.world.ada, pilot.pilot_id)
    assert (found.status, found.reason) == ("done", "no work for 15 s")
    with pytest.raises(Exception, match="pilot-ended"):
        await call(server, "POST", "/api/pilot/heartbeat", {"held": []})


async def test_the_commands(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pilot = await new_pilot(site)
    client = await site.client(site.world.ada_admin)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SPINOR_URL", site.url)
    monkeypatch.setenv("SPINOR_CA_FILE", str(site.ca_file))
    monkeypatch.setenv("BEARER_TOKEN", client.token())

    async def run(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(cli.run, ["pilot", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    number = str(pilot.pilot_id)
    assert await run("list", "-q") == (0, f"{number}\n", "")
    code, out, _ = await run("list", "--where", "status=new")
    assert code == 0
    assert "local-ce" in out
    code, out, _ = await run("show", number, "--json")
    assert msgspec.json.decode(out)["status"] == "new"
    assert (await run("log", number))[:2] == (0, "")
    code, _, err = await run("show", "999999")
    assert code == 3
    assert "999999" in err
    code, _, err = await run("cancel", number, "999999")
    assert code == 3
    assert "1 cancelled, 1 refused" in err
    assert (await run("cancel", number))[0] == 5
    code, _, err = await run("cancel", "everything")
    assert code == 2
    assert "Traceback" not in err
