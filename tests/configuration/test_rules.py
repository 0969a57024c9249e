"""Quantities, differences and warnings."""

import pytest

from spinor.configuration import rules
from spinor.configuration.checking import read_document
from spinor.configuration.models import ChangeKind
from tests.configuration.test_reading import GOOD


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4GB", 4 * 10**9),
        ("4 GB", 4 * 10**9),
        ("4GiB", 2**32),
        ("1.5kB", 1500),
        ("7B", 7),
        (7, 7),
        ("500mb", 5 * 10**8),
    ],
)
def test_sizes(text: str | int, count: int) -> None:
    assert rules.size_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GB", "4XB", "-4GB", "4GBB", "9999PB", 0, -1, 2**63, "4GB\n4GB", "٤GB"])
def test_what_is_no_size(text: str | int) -> None:
    with pytest.raises(ValueError):
        rules.size_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("1h30m", 5400), ("2d", 172800), ("5min", 300), ("1w", 604800), (60, 60)]
)
def test_durations(text: str | int, seconds: int) -> None:
    assert rules.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "1y", "h", "-1h", 0, "100000w", "1h30"])
def test_what_is_no_duration(text: str | int) -> None:
    with pytest.raises(ValueError):
        rules.duration_s(text)


def test_the_same_document_does_not_differ() -> None:
    document = read_document(GOOD)
    assert rules.differences(document, read_document("# A comment.\n" + GOOD)) == []
    assert rules.warnings(document, document) == []


def test_differences_are_named_by_path() -> None:
    new = GOOD.replace("[ada]", "[ada, bob]").replace("users:", "users:\n  bob:").replace("cores: 2", "cores: 4")
    new = new.replace(", email: ada@example.org", "")
    changes = {change.path: change for change in rules.differences(read_document(GOOD), read_document(new))}
    assert {path: change.kind for path, change in changes.items()} == {
        "vos.astro.groups.admins.members[bob]": ChangeKind.ADDED,
        "users.bob": ChangeKind.ADDED,
        "users.ada.email": ChangeKind.REMOVED,
        "sites.LOCAL.computing_elements.ce.cores": ChangeKind.CHANGED,
    }
    cores = changes["sites.LOCAL.computing_elements.ce.cores"]
    assert (cores.old, cores.new) == (2, 4)


def test_the_order_of_names_is_no_difference() -> None:
    two = GOOD.replace("users:", "users:\n  bob:")
    old, new = two.replace("[ada]", "[ada, bob]"), two.replace("[ada]", "[bob, ada]")
    assert rules.differences(read_document(old), read_document(new)) == []


def test_what_is_retired_is_warned_of() -> None:
    new = read_document(GOOD.replace("ce: {", "other: {").replace("/srv/data", "/srv/elsewhere"))
    found = " ".join(rules.warnings(read_document(GOOD), new))
    assert "Computing element ce is retired" in found
    assert "Storage element se gets another root" in found
    gone = GOOD[: GOOD.index("    storage_elements")].replace("astro", "bio")
    found = " ".join(rules.warnings(read_document(GOOD), read_document(gone)))
    assert "VO astro is retired" in found
    assert "Storage element se is retired" in found


def test_the_base_is_in_the_first_line() -> None:
    assert rules.base_of("# revision 12, applied by ada\nvos:") == 12
    assert rules.body_of("# revision 12, applied by ada\nvos:") == "vos:"
    for text in ("vos:\n# revision 12\n", "", "#revision 12", "# revision x", " # revision 1"):
        assert rules.base_of(text) is None
        assert rules.body_of(text) == text
