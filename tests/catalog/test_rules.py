"""Pure decisions."""

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.access import Caller, Scope
from spinor.catalog import rules
from spinor.catalog.cli.scanning import count_files
from spinor.catalog.models import Access


def caller(user_id: int, group_id: int, *scopes: Scope) -> Caller:
    return Caller(
        vo_id=1, vo="astro", user_id=user_id, user=f"u{user_id}", group_id=group_id, group=f"g{group_id}",
        scopes=frozenset(scopes),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("owner", "group", "mode", "may"),
    [
        (1, 1, 0o755, True),
        (1, 1, 0o555, False),  # The owner's class decides alone.
        (1, 2, 0o077, False),
        (2, 1, 0o755, False),
        (2, 1, 0o775, True),
        (2, 1, 0o757, False),  # So does the group's.
        (2, 2, 0o775, False),
        (2, 2, 0o757, True),
        (None, None, 0o775, True),
        (None, None, 0o755, False),
        (None, 2, 0o775, False),
    ],
)
def test_who_may_write(owner: int | None, group: int | None, mode: int, may: bool) -> None:
    thing = Access(owner_id=owner, group_id=group, mode=mode)
    assert bool(rules.bits_of(thing, caller(1, 1, Scope.FILES_WRITE)) & rules.WRITE) is may
    assert rules.bits_of(thing, caller(1, 1, Scope.FILES_MANAGE)) == 7


def test_in_the_top_directory_each_takes_away_their_own() -> None:
    top = Access(owner_id=None, group_id=None, mode=rules.ROOT_MODE)
    assert rules.may_take(top, 1, caller(1, 1))
    assert not rules.may_take(top, 2, caller(1, 1))
    assert rules.may_take(top, 2, caller(1, 1, Scope.FILES_MANAGE))


@given(st.text(max_size=300))
def test_a_good_name_is_one_part_of_a_path_and_a_bad_one_is_explained(name: str) -> None:
    fault = rules.name_fault(name)
    if fault is None:
        assert rules.split_lfn(f"/astro/d/{name}", "astro") == ("/astro/d", name)
        assert rules.checked_pfn(name) == name
    else:
        assert rules.path_fault(f"/astro/d/{name}/x", "astro") or "/" in name


@given(st.text(min_size=1, max_size=255), st.text("abc;0123.", max_size=40))
def test_a_placed_name_fits_a_file_system_and_ends_in_its_suffix(name: str, suffix: str) -> None:
    placed = rules.placed_name(name, suffix)
    assert len(placed.encode()) <= 255
    assert placed.endswith(suffix)


def test_the_nearest_of_the_known_paths() -> None:
    assert rules.nearest("/a/b/c", {"/a", "/a/b"}) == "/a/b"
    assert rules.nearest("/a/b", {"/a/b"}) == "/a/b"
    assert rules.nearest("/ab", {"/a"}) is None
    assert rules.with_ancestors(["/a/b/c", "/a/d"]) == {"/a", "/a/b", "/a/b/c", "/a/d"}
    assert rules.ancestors("/a/b/c") == ["/a", "/a/b"]


def test_counting_ahead_finds_what_a_scan_will(tmp_path: Path) -> None:
    for name in ("a/x", "a/b/y", "z", "skip/w", "v.tmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "z")
    assert count_files(str(tmp_path), ["skip", "*.tmp"], threading.Event()) == 3
