"""Entitlements by their grammars: what is written reads back the same, and junk is nothing."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spinor.errors import SpinorError
from spinor.identity.federation import entitlements
from spinor.identity.federation.entitlements import Capability, GroupEntitlement, covers, parse, parse_wlcg_group

EGI = ("urn", "mace", "egi.eu")


@pytest.mark.parametrize(
    ("text", "groups", "role"),
    [
        ("urn:mace:egi.eu:group:vo.example.org:role=member#aai.egi.eu", ("vo.example.org",), "member"),
        ("urn:mace:egi.eu:group:km3net.org:role=member#aai.egi.eu", ("km3net.org",), "member"),
        ("urn:mace:egi.eu:group:eng_cloud:sub-1:role=vm_operator#aai.egi.eu", ("eng_cloud", "sub-1"), "vm_operator"),
        ("urn:mace:egi.eu:group:a:b:c", ("a", "b", "c"), None),
        ("URN:MACE:egi.eu:group:a", ("a",), None),
        ("urn:mace:egi.eu:group:a%3Arole=x", ("a:role=x",), None),
        ("urn:mace:egi.eu:group:Astro%20Group:role=Site+Administrator", ("Astro Group",), "Site+Administrator"),
        ("urn:mace:egi.eu:aai.egi.eu:member@vo.access.egi.eu", ("vo.access.egi.eu",), "member"),
        ("urn:mace:egi.eu:aai.egi.eu:sub:vm_operator@km3net.org", ("km3net.org", "sub"), "vm_operator"),
    ],
)
def test_groups(text: str, groups: tuple[str, ...], role: str | None) -> None:
    assert parse(text) == GroupEntitlement(EGI, groups, role)


def test_the_authority_is_no_part_of_equality() -> None:
    modern = parse("urn:mace:egi.eu:group:km3net.org:role=member#aai.egi.eu")
    assert modern == parse("urn:mace:egi.eu:group:km3net.org:role=member#other.example.org")
    assert modern == parse("urn:mace:egi.eu:group:km3net.org:role=member")
    assert modern == parse("urn:mace:egi.eu:aai.egi.eu:member@km3net.org")
    assert hash(modern) == hash(parse("urn:mace:egi.eu:group:km3net.org:role=member#x"))


@pytest.mark.parametrize(
    "other",
    [
        "urn:mace:other.eu:group:km3net.org:role=member#aai.egi.eu",
        "urn:geant:egi.eu:group:km3net.org:role=member#aai.egi.eu",
        "urn:mace:egi.eu:group:km3net.org:sub:role=member#aai.egi.eu",
        "urn:mace:egi.eu:group:km3net.org:role=manager#aai.egi.eu",
        "urn:mace:egi.eu:group:km3net.org#aai.egi.eu",
        "urn:mace:egi.eu:group:km3net.orgx:role=member",
        "urn:mace:egi.eu:group:KM3NET.org:role=member",
        "urn:mace:egi.eu:group:km3net%2Eorg%3Arole=member",
        "urn:mace:egi.eu:sub:group:km3net.org:role=member",
    ],
)
def test_what_is_not_the_same_group(other: str) -> None:
    assert not covers(parse(other), parse("urn:mace:egi.eu:group:km3net.org:role=member#aai.egi.eu"))


def test_capabilities() -> None:
    has = parse("urn:mace:egi.eu:res:compute:gpu:act:submit,read#aai.egi.eu")
    assert has == Capability(EGI, ("compute", "gpu"), frozenset({"submit", "read"}))
    assert covers(has, parse("urn:mace:egi.eu:res:compute:gpu:act:read"))
    assert not covers(has, parse("urn:mace:egi.eu:res:compute:gpu:act:read,cancel"))
    assert not covers(has, parse("urn:mace:egi.eu:res:compute:act:read"))
    assert not covers(has, parse("urn:mace:egi.eu:group:compute:gpu"))


JUNK = [
    "", "urn", "urn:mace:egi.eu", "urn:mace:egi.eu:group", "urn:mace:egi.eu:group:", "urn:mace:group:a",
    "urn:mace:egi.eu:group:a:role=", "urn:mace:egi.eu:group:role=member", "urn:mace:egi.eu:group:a:role=x:b",
    "urn:mace:egi.eu:group:a:role=x:role=y", "urn:mace:egi.eu:group:a%", "urn:mace:egi.eu:group:a%2",
    "urn:mace:egi.eu:group:a%ff", "urn:mace:egi.eu:group:a%00", "urn:mace:egi.eu:group:a%0Ab",
    "urn:mace:egi.eu:group:a b",
    "urn:mace:egi.eu:group:a\n", "urn:mace:egi.eu:group:a::b", "http://x:mace:egi.eu:group:a", "urn:-:egi.eu:group:a",
    "urn:mace:egi.eu:group:a?=x", "urn:mace:egi.eu:group:a#b#c", "urn:mace:egi.eu:group:a#", "urn:mace:egi.eu:group:é",
    "urn:mace:egi.eu:aai.egi.eu:member@", "urn:mace:egi.eu:aai.egi.eu:@vo", "urn:mace:egi.eu:res:",
    "urn:mace:egi.eu:goc.egi.eu:1:SITE:Site+Administrator@egi.eu", "urn:mace:egi.eu:group:" + "a" * 1024,
]  # fmt: skip


@pytest.mark.parametrize("text", JUNK)
def test_junk_is_refused(text: str) -> None:
    with pytest.raises(entitlements.NotAnEntitlement):
        parse(text)


NAMES = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12)
NAMESPACES = st.tuples(st.just("urn"), st.sampled_from(["mace", "geant", "x-1"])).flatmap(
    lambda head: st.lists(NAMES.filter(lambda n: n not in ("group", "res")), min_size=1, max_size=3).map(
        lambda rest: (*head, *rest)
    )
)


@given(NAMESPACES, st.lists(NAMES, min_size=1, max_size=4), st.none() | NAMES, st.none() | NAMES)
def test_a_group_reads_back_as_it_was_written(
    namespace: tuple[str, ...], groups: list[str], role: str | None, authority: str | None
) -> None:
    made = GroupEntitlement(namespace, tuple(groups), role, authority)
    if len(str(made)) > entitlements.LONGEST:
        return
    read = parse(str(made))
    if namespace == (*EGI, "aai.egi.eu"):  # There the older form is meant.
        return
    assert read == made
    assert isinstance(read, GroupEntitlement)
    assert read.authority == authority
    assert str(read) == str(made)


@given(NAMESPACES, st.lists(NAMES, min_size=1, max_size=3), st.frozensets(NAMES, max_size=3))
def test_a_capability_reads_back_as_it_was_written(
    namespace: tuple[str, ...], resources: list[str], actions: frozenset[str]
) -> None:
    made = Capability(namespace, tuple(resources), actions)
    if "act" in resources or len(str(made)) > entitlements.LONGEST or namespace == (*EGI, "aai.egi.eu"):
        return
    assert parse(str(made)) == made


@given(st.text() | st.text(alphabet="urn:mace.gi@%=#0aroles").map(lambda t: "urn:mace:egi.eu:group:" + t))
@example("urn:mace:egi.eu:aai.egi.eu:%@a")
def test_whatever_comes_is_an_entitlement_or_our_error(text: str) -> None:
    try:
        read = parse(text)
    except SpinorError as error:
        assert isinstance(error, entitlements.NotAnEntitlement)
    else:
        assert covers(read, read)


@pytest.mark.parametrize("text", ["/astro", "/astro/sub", "/km3net.org/prod_1", "/vo.access.egi.eu", "/dteam/a-b"])
def test_wlcg_groups(text: str) -> None:
    assert "/" + "/".join(parse_wlcg_group(text)) == text


@pytest.mark.parametrize("text", ["", "/", "astro", "//astro", "/astro/", "/astro//x", "/a/../b", "/a b", "/a\n", "/é"])
def test_what_is_no_wlcg_group(text: str) -> None:
    with pytest.raises(entitlements.NotAGroup):
        parse_wlcg_group(text)


@given(st.text())
def test_whatever_comes_is_a_group_or_our_error(text: str) -> None:
    try:
        assert "/" + "/".join(parse_wlcg_group(text)) == text
    except SpinorError as error:
        assert isinstance(error, entitlements.NotAGroup)
