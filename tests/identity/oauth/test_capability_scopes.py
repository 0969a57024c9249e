"""What a capability scope allows: the table of the WLCG profile, and that no spelling of a path gets around it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.identity.oauth.capability_scopes import (
    COMPUTE_ACTIONS,
    LONGEST_SCOPE,
    STORAGE_ACTIONS,
    Capability,
    capability,
)


@pytest.mark.parametrize(
    ("held", "asked", "allowed"),
    [
        ("storage.create:/foo/bar", "storage.create:/foo/bar", True),
        ("storage.create:/foo/bar", "storage.create:/foo/bar/qux", True),
        ("storage.create:/foo/bar", "storage.create:/foo/bar/", True),
        ("storage.create:/foo/bar", "storage.create:/foo/bargain", False),
        ("storage.create:/foo/bar", "storage.create:/foo", False),
        ("storage.create:/foo/bar", "storage.create:/", False),
        ("storage.create:/foo/bar/", "storage.create:/foo/bar", False),
        ("storage.create:/foo/bar/", "storage.create:/foo/bar/", True),
        ("storage.create:/foo/bar/", "storage.create:/foo/bar/x", True),
        ("storage.read:/john", "storage.read:/johnathan", False),
        ("storage.read:/john", "storage.read:/john/x", True),
        ("storage.read:/John", "storage.read:/john", False),
        ("storage.read:/", "storage.read:/anything/at/all", True),
        ("storage.read:/", "storage.read:/", True),
        ("storage.read:/a", "storage.create:/a", False),
        ("storage.read:/a", "storage.stage:/a", False),
        ("storage.modify:/a", "storage.create:/a/b", True),
        ("storage.modify:/a", "storage.read:/a/b", False),
        ("storage.create:/a", "storage.modify:/a/b", False),
        ("storage.stage:/a", "storage.poll:/a/b", True),
        ("storage.stage:/a", "storage.read:/a/b", False),
        ("storage.poll:/a", "storage.stage:/a/b", False),
        ("storage.read:/a%62c", "storage.read:/abc/d", True),
        ("storage.read:/abc", "storage.read:/%61%62%63/d", True),
        ("compute.read", "compute.read", True),
        ("compute.modify", "compute.create", False),
        ("compute.read", "storage.read:/", False),
    ],
)
def test_the_table(held: str, asked: str, allowed: bool) -> None:
    assert capability(held).covers(capability(asked)) is allowed


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "storage.read",
        "storage.read:",
        "storage.read:data",
        "storage.read:data/x",
        "storage.read:/../etc",
        "storage.read:/a/../b",
        "storage.read:/a/..",
        "storage.read:/./a",
        "storage.read:/a//b",
        "storage.read://a",
        "storage.read://",
        "storage.read:/%2e%2e/etc",
        "storage.read:/%2E%2e/etc",
        "storage.read:/.%2e/etc",
        "storage.read:/a%2fb",
        "storage.read:/a%2Fb",
        "storage.read:/a%00",
        "storage.read:/a%0a",
        "storage.read:/a%7f",
        "storage.read:/a%ff",
        "storage.read:/a%",
        "storage.read:/a%2",
        "storage.read:/a%zz",
        "storage.read:/a\\b",
        "storage.read:/a b",
        'storage.read:/a"b',
        "storage.read:/a?b",
        "storage.read:/a#b",
        "storage.read:/é",
        "storage.read:/a\n",
        "storage.write:/a",
        "storage.*:/a",
        "Storage.Read:/a",
        "compute.read:/a",
        "compute.read:",
        "compute.all",
        "read:/a",
        "storage.read:/" + "a" * LONGEST_SCOPE,
    ],
)
def test_what_is_no_scope(scope: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has) "):
        capability(scope)


def names() -> st.SearchStrategy[str]:
    """Names that a file can have: no slash, no control character, not `.` or `..`."""
    letters = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/")
    return st.text(letters, min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))


def capabilities() -> st.SearchStrategy[Capability]:
    paths = st.lists(names(), max_size=5).map(tuple)
    built = st.builds(Capability, st.sampled_from(STORAGE_ACTIONS), paths, st.booleans())
    return built.map(lambda found: found if found.names else found._replace(is_directory=True))


@given(capabilities())
def test_what_is_written_is_read_back(found: Capability) -> None:
    assert capability(found.text) == found
    assert capability(capability(found.text).text) == found
    assert found.text.isascii()
    assert " " not in found.text
    assert '"' not in found.text
    assert "\\" not in found.text


@given(capabilities(), capabilities())
def test_only_names_decide_and_never_letters(held: Capability, asked: Capability) -> None:
    """A held path allows exactly what lies at it or below it, name by name."""
    below = asked.names[: len(held.names)] == held.names
    if held.covers(asked):
        assert below
    if below and held.action == asked.action and len(asked.names) > len(held.names):
        assert held.covers(asked)


@given(capabilities(), capabilities(), capabilities())
def test_allowing_is_an_order(a: Capability, b: Capability, c: Capability) -> None:
    assert a.covers(a)
    if a.covers(b) and b.covers(c):
        assert a.covers(c)


@given(capabilities(), names())
def test_a_longer_name_is_another_one(held: Capability, more: str) -> None:
    if held.names:
        longer = held._replace(names=(*held.names[:-1], held.names[-1] + more))
        assert not held.covers(longer)
        assert not longer.covers(held)


@given(capabilities(), st.data())
def test_no_spelling_of_a_path_gets_around(held: Capability, data: st.DataObject) -> None:
    """Whichever letters are escaped, in small or capital digits, the path is the same one."""
    spelled = []
    for name in held.names:
        raw = name.encode()
        escaped = data.draw(st.lists(st.booleans(), min_size=len(raw), max_size=len(raw)))
        digits = data.draw(st.sampled_from(["%%%02x", "%%%02X"]))
        letters = [
            chr(byte) if not escape and chr(byte).isalnum() and byte < 128 else digits % byte
            for byte, escape in zip(raw, escaped, strict=True)
        ]
        spelled.append("".join(letters))
    text = f"{held.action}:/" + "/".join(spelled) + ("/" if held.is_directory and spelled else "")
    assert capability(text) == held


@given(st.text(max_size=60))
def test_any_text_is_a_scope_or_a_plain_refusal(text: str) -> None:
    try:
        found = capability(text)
    except ValueError as error:
        assert str(error).startswith(("is ", "has "))
    else:
        assert found.action in (*STORAGE_ACTIONS, *COMPUTE_ACTIONS)
        assert not {"", ".", ".."} & set(found.names)
        assert not any("/" in name for name in found.names)


@given(st.lists(st.sampled_from(["..", ".", "", "%2e", "%2E%2e", "a", "%2f", "b"]), min_size=1, max_size=6))
def test_no_path_leaves_its_directory(parts: list[str]) -> None:
    try:
        found = capability("storage.read:/" + "/".join(parts))
    except ValueError:
        return
    assert set(found.names) <= {"a", "b"}
