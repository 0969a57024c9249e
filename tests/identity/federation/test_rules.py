"""What people from elsewhere are given, what they are called, and where they go next."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.identity import rules as identity_rules
from spinor.identity.federation import rules
from spinor.identity.federation.models import Facts, MembershipRule, Provider

PROVIDER = Provider(
    name="egi",
    title="EGI Check-in",
    issuer="https://aai.egi.eu/auth/realms/egi",
    client_id="spinor",
    memberships=[
        MembershipRule(
            vo="km3net.org", group="km3_users", entitlement="urn:mace:egi.eu:group:km3net.org:role=member#aai.egi.eu"
        ),
        MembershipRule(vo="astro", group="astro_users", wlcg_group="/astro"),
        MembershipRule(vo="astro", group="astro_prod", wlcg_group="/astro/production"),
        MembershipRule(vo="bio", group="bio_users", provider_group="/bio/people"),
    ],
)


def roles(**claims: Any) -> list[tuple[str, str]]:
    return rules.roles_of(PROVIDER, rules.facts_of(PROVIDER, claims))


def test_entitlements_give_groups() -> None:
    assert roles(eduperson_entitlement=["urn:mace:egi.eu:group:km3net.org:role=member#elsewhere"]) == [
        ("km3net.org", "km3_users")
    ]
    assert roles(entitlements="urn:mace:egi.eu:aai.egi.eu:member@km3net.org") == [("km3net.org", "km3_users")]
    assert roles(eduperson_entitlement=["urn:mace:egi.eu:group:km3net.org:role=manager#aai.egi.eu"]) == []


def test_a_child_does_not_imply_its_parent() -> None:
    assert roles(**{"wlcg.groups": ["/astro/production"]}) == [("astro", "astro_prod")]
    assert roles(**{"wlcg.groups": ["/astro"]}) == [("astro", "astro_users")]
    assert roles(**{"wlcg.groups": ["/astronomy", "/astro/productions", "astro"]}) == []


def test_a_kind_of_group_is_not_taken_for_another() -> None:
    assert roles(groups=["/astro", "/astro/production"]) == []
    assert roles(**{"wlcg.groups": ["/bio/people"]}) == []
    assert roles(groups=["bio/people"]) == roles(groups=["/bio/people"]) == [("bio", "bio_users")]
    assert roles(**{"wlcg.groups": ["urn:mace:egi.eu:group:km3net.org:role=member#aai.egi.eu"]}) == []


def test_who_is_assured_too_little_is_given_nothing() -> None:
    careful = Provider(
        name="egi",
        title="x",
        issuer="https://x",
        client_id="x",
        assurance=["https://aai.egi.eu/LoA#Substantial", "https://aai.egi.eu/LoA#High"],
        memberships=[MembershipRule(vo="astro", group="astro_users", anyone=True)],
    )
    assert rules.roles_of(careful, Facts(assurance=["https://aai.egi.eu/LoA#Low"])) == []
    assert rules.roles_of(careful, Facts()) == []
    assert rules.roles_of(careful, Facts(assurance=["https://aai.egi.eu/LoA#Substantial"])) == [
        ("astro", "astro_users")
    ]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_whatever_a_claim_is_it_is_text_or_nothing(value: Any) -> None:
    claims = dict.fromkeys((*PROVIDER.entitlements, "eduperson_assurance", "cert_entitlement"), value)
    facts = rules.facts_of(PROVIDER, claims)
    rules.roles_of(PROVIDER, facts)
    assert rules.certificates_of(claims) == []
    assert all(isinstance(each, str) for each in (*facts.entitlements, *facts.groups, *facts.assurance))


@pytest.mark.parametrize(
    ("claim", "name"),
    [
        ("Ada Lovelace", "ada.lovelace"), ("Zoë Ångström", "zoe.angstrom"), ("../../etc", "etc"), ("", "user"),
        ("ada@astro.example.org", "ada"), ("李白", "user"), ("12345", "user"), ("x" * 100, "x" * 32),
        ("a\u202eb", "a.b"),
        ("<script>", "script"), (["ada"], "user"), (None, "user"),
    ],
)  # fmt: skip
def test_names_of_accounts(claim: Any, name: str) -> None:
    assert rules.wanted_name(PROVIDER, {"preferred_username": claim}) == name


@given(st.text())
def test_every_name_is_one_that_users_may_have(text: str) -> None:
    name = rules.account_name(text)
    assert name == "" or identity_rules.NAME.fullmatch(name)


def test_names_are_free_and_not_the_services() -> None:
    assert rules.free_name("ada", []) == "ada"
    assert rules.free_name("ada", ["ada", "ada2"]) == "ada3"
    assert rules.free_name("root", []) == "root2"
    assert rules.free_name("admin", ["admin2"]) == "admin3"


@pytest.mark.parametrize(
    "path",
    ["/register", "/api/auth/authorize?client_id=x&redirect_uri=http%3A%2F%2F127.0.0.1%2F", "/device?user_code=A-B"],
)
def test_paths_of_this_service_are_followed(path: str) -> None:
    assert rules.next_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "", "//evil.example.org", "/\\evil.example.org", "\\\\evil", "https://evil.example.org", "javascript:alert(1)",
        "/\t/evil.example.org", "/\n/evil", " /x", "///evil", "evil", "/%0a\r\nset-cookie:x", "/é", "/" + "x" * 5000,
        "http:/evil", "data:text/html,x", "//", "/x y",
    ],
)  # fmt: skip
def test_nobody_is_sent_elsewhere(path: str) -> None:
    assert rules.next_path(path) == "/login"


@pytest.mark.parametrize(
    ("address", "right"),
    [
        ("https://aai.egi.eu/auth/realms/egi", True), ("https://localhost:8443", True), ("http://localhost", False),
        ("https://u@x", False), ("https://x?y", False), ("https://x#y", False), ("https://", False), ("x", False),
        ("https://x:99999", False), ("https://x y", False),
    ],
)  # fmt: skip
def test_issuers(address: str, right: bool) -> None:
    assert rules.is_issuer(address) is right


def test_certificates_as_check_in_names_them() -> None:
    said = [
        {"cert_subject_dn": "/DC=org/CN=Ada", "cert_iss": "/DC=org/CN=CA", "eduperson_entitlement": ["x"]},
        {"cert_subject_dn": "CN=Ada", "cert_iss": "/DC=org/CN=CA"},
        {"cert_subject_dn": 1},
        "x",
    ]
    (found,) = rules.certificates_of({"cert_entitlement": said})
    assert (found.issuer, found.subject) == ("/DC=org/CN=CA", "/DC=org/CN=Ada")
