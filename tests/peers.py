"""Tests marked `peer(name)`: without that peer they are skipped, each by name, and the last line of the run tells.

With SPINOR_REQUIRE_PEERS=1 they fail instead, so that nobody takes a run without peers for one with them; but for those
that are installed on request only.
"""

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from bench.peers import ON_REQUEST, missing

_SKIPPED = "peer "  # How each reason of `missing` begins; its second word is the name.


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("peer"):
        reason = missing(mark.args[0])
        if reason is None:
            continue
        if os.environ.get("SPINOR_REQUIRE_PEERS") == "1" and mark.args[0] not in ON_REQUEST:
            pytest.fail(f"{reason}, and SPINOR_REQUIRE_PEERS is set", pytrace=False)
        pytest.skip(f"{reason} ({item.name})")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    yield  # Pytest's own summary comes first.
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None:
        return
    # The reports are looked at, not the tests, since these may have run in other processes.
    reasons = [str(report.longrepr[2]).removeprefix("Skipped: ") for report in terminal.stats.get("skipped", [])]
    skipped = Counter(reason.split()[1] for reason in reasons if reason.startswith(_SKIPPED))
    if skipped:
        counts = ", ".join(f"{count} for want of {name}" for name, count in sorted(skipped.items()))
        terminal.write_line(f"peer tests skipped: {counts}; run scripts/peers {' '.join(sorted(skipped))}")
