"""Where pilots ask for jobs: what it remembers of them."""

import pytest

from spinor.jobs.models import JobSpec, Offer
from spinor.jobs.service import Matcher, Watch
from spinor.pilots import service
from spinor.pilots.models import MatchRequest
from spinor.pilots.service import matching
from tests.jobs.workbench import pilot_of

from .conftest import Site
from .test_enrolment import call, enrolled

OFFER = Offer(cores=1, memory_bytes=10**9, disk_bytes=10**9, wall_s=60)


async def test_pilots_are_forgotten_when_they_have_ended_and_when_there_are_many(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "_REMEMBERED", 2)
    await site.submit(site.world.ada, JobSpec(executable="sleep", cores=2, parameters={"n": list(range(20))}))
    async with site.context.db.transaction() as tx:
        pilots = [pilot for order in await service.demand_to_plan(tx) for pilot in order.pilots][:3]
    servers = [await enrolled(site, pilot) for pilot in pilots]
    matcher = Matcher()
    desk = service.Desk(site.context.db, site.keys, site.url, matcher, Watch(site.context.db, matcher.view))
    first, second, third = (pilot_of(site.world.ada, pilot.pilot_id) for pilot in pilots)
    for caller in (first, second, first, third):
        assert await desk.match(caller, MatchRequest(offer=OFFER)) == []
    assert list(desk._slots) == [first.pilot_id, third.pilot_id], "the second has not asked for the longest time"
    await call(servers[0], "POST", "/api/pilot/goodbye", {"reason": "no work"})
    with pytest.raises(service.PilotEnded):
        await desk.match(first, MatchRequest(offer=OFFER))
    assert list(desk._slots) == [third.pilot_id]
