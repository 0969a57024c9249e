"""Who gets a full proxy, and which attributes; without I/O."""

import itertools

import pytest

from spinor.access import Scope
from spinor.identity.delegation import rules
from spinor.identity.delegation.models import FULL_PROXY, AskedAttributes, Voms, VomsHost

HERE = Voms(vo="astro", name="testvo", servers=[], signs_itself=True, groups={"/testvo/Role=pilot": "pilots"})
SERVED = Voms(
    vo="astro", name="testvo", servers=[VomsHost(host="h", port=1, subject="/CN=h")], signs_itself=False,
    groups=HERE.groups,
)  # fmt: skip


@pytest.mark.parametrize(("may", "asked", "stored"), list(itertools.product((False, True), repeat=3)))
def test_a_group_that_requires_limited_proxies_never_gets_another(*, may: bool, asked: bool, stored: bool) -> None:
    """DIRAC's defect: such a group got a full one when the stored one was full."""
    properties = ["normal_user", *([FULL_PROXY] if may else [])]
    try:
        limited = rules.is_limited(properties, "group", asked=asked, stored=stored)
    except rules.FullProxyDenied:
        assert not (may or asked or stored)
        return
    assert limited or may
    assert limited == (asked or stored)


def test_a_limited_proxy_starts_nothing() -> None:
    for scope in (Scope.JOBS_SUBMIT, Scope.PROXIES_USE, Scope.TOKENS_CREATE, Scope.SELF_WRITE, Scope.CONFIG_WRITE):
        assert scope not in rules.SCOPES_OF_LIMITED
    assert {Scope.FILES_READ, Scope.FILES_WRITE} <= rules.SCOPES_OF_LIMITED


def fqans(*asked: str, group: str = "users", voms: Voms | None = HERE, vo: str = "") -> list[str]:
    return rules.wanted_fqans(AskedAttributes(vo=vo, fqans=list(asked)), "astro", group, voms)


def test_our_own_authority_gives_what_the_operations_data_say() -> None:
    assert fqans() == ["/testvo"]
    assert fqans(group="pilots") == ["/testvo/Role=pilot", "/testvo"]
    assert fqans("/testvo/Role=NULL/Capability=NULL") == ["/testvo"]
    for asked in ("/testvo/Role=pilot", "/testvo/Role=admin", "/testvo/sub", "/other", "/testvo2"):
        with pytest.raises(rules.AttributesDenied):
            fqans(asked)


def test_a_server_decides_but_for_what_stands_for_another_group() -> None:
    assert fqans("/testvo/Role=admin", voms=SERVED) == ["/testvo/Role=admin"]
    assert fqans("/testvo/Role=pilot", group="pilots", voms=SERVED) == ["/testvo/Role=pilot"]
    with pytest.raises(rules.AttributesDenied):
        fqans("/testvo/Role=pilot", voms=SERVED)
    assert fqans(voms=SERVED) == []


def test_attributes_are_of_the_tokens_vo() -> None:
    assert fqans(vo="astro") == fqans(vo="testvo") == ["/testvo"]
    with pytest.raises(rules.AttributesDenied):
        fqans(vo="bio")
    with pytest.raises(rules.NoAttributes):
        fqans(voms=None)
    with pytest.raises(rules.NoAttributes):
        fqans(voms=Voms(vo="astro", name="testvo", servers=[], signs_itself=False, groups=HERE.groups))
