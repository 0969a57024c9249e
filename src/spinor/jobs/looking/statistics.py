"""How jobs went of late, and what waits and runs now."""

from datetime import UTC, datetime, timedelta

from spinor.access import Caller
from spinor.db import Tx
from spinor.jobs.looking import store
from spinor.jobs.models import JobStatistics, StatisticsQuery, StatisticsRow


async def job_statistics(tx: Tx, caller: Caller, asked: StatisticsQuery, now: datetime | None = None) -> JobStatistics:
    """Of the VO's jobs, or of one owner's: counts, success, efficiency, times, and how attempts failed."""
    since = (now or datetime.now(UTC)) - timedelta(seconds=asked.last_s)
    sums = await store.sum_up_jobs(tx, caller.vo_id, asked, since)
    failures = await store.count_failures(tx, caller.vo_id, asked.owner, since)
    total = next((row.plain() for row in sums if row.is_total), StatisticsRow(value=None))
    return JobStatistics(
        since=since, rows=[row.plain() for row in sums if not row.is_total], total=total, failures=failures
    )
