"""Values as array text mean to PostgreSQL what the driver's own lists mean."""

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinor.db import array_text

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    texts=st.lists(st.none() | TEXT),
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1)),
    binaries=st.lists(st.binary()),
)
def test_array_text(database_url: str, texts: list[str | None], numbers: list[int], binaries: list[bytes]) -> None:
    with psycopg.connect(database_url) as conn:
        row = conn.execute(
            "SELECT %s::text[], %s::bigint[], %s::bytea[]",
            [array_text(texts), array_text(numbers), array_text(binaries)],
        ).fetchone()
    assert row == (texts, numbers, binaries)
