"""Identity providers in the operations data: what is wrong in them is found, and the tables follow."""

import pytest

from spinor.configuration import service
from spinor.configuration.checking import read_document
from spinor.configuration.rules import wanted_providers
from spinor.identity.federation.models import Admission, MembershipRule

GOOD = """\
vos:
  astro:
    groups:
      admins: {properties: [configuration_administrator], members: [ada]}
      users: {properties: [normal_user]}
users:
  ada: {}
identity_providers:
  egi:
    title: EGI Check-in
    issuer: https://aai.egi.eu/auth/realms/egi
    client_id: spinor
    client_secret_file: egi
    recheck: 12h
    memberships:
      - {entitlement: "urn:mace:egi.eu:group:astro:role=member#aai.egi.eu", vo: astro, group: users}
      - {wlcg_group: /astro, vo: astro, group: users}
"""


def only(text: str) -> tuple[int, str, str]:
    (fault,) = service.validate(text).faults
    return fault.line, fault.path, fault.message


def test_a_provider_is_read() -> None:
    assert service.validate(GOOD).valid
    (provider,) = wanted_providers(read_document(GOOD))
    assert (provider.name, provider.recheck_s, provider.registration) == ("egi", 43_200, Admission.RULES)
    assert provider.memberships[1] == MembershipRule(vo="astro", group="users", wlcg_group="/astro")
    assert "openid" in provider.scopes


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "message"),
    [
        ("https://aai", "http://aai", 11, "issuer", "https"),
        ("/realms/egi", "/realms/egi#x", 11, "issuer", "https"),
        ("recheck: 12h", "recheck: soon", 14, "recheck", "soon"),
        ("recheck: 12h", "lapse: 0s", 14, "lapse", "more than nothing"),
        ("recheck: 12h", "scopes: [profile]", 14, "scopes", "openid"),
        ("recheck: 12h", "subject_claim: email", 14, "subject_claim", "somebody else"),
        ("recheck: 12h", "registration: open", 14, "registration", "enum"),
        ("recheck: 12h", "registration_vos: [astra]", 14, "registration_vos[0]", "did you mean 'astro'"),
        ("recheck: 12h", "ca_file: ca.pem", 14, "ca_file", "absolute"),
        ("client_secret_file: egi", "client_secret_file: ../../keys/x", 13, "client_secret_file", "plain name"),
        ("client_secret_file: egi", "client_secret: hunter2hunter2", 13, "client_secret", "did you mean"),
        ("egi:\n    title", "Egi/..:\n    title", 9, "", "a name is"),
        ("wlcg_group: /astro,", "wlcg_group: astro,", 17, "memberships[1]", "WLCG"),
        ("wlcg_group: /astro,", "", 17, "memberships[1]", "needs one of"),
        ("wlcg_group: /astro,", "wlcg_group: /astro, anyone: true,", 17, "memberships[1]", "needs one of"),
        ("group: users}\n", "group: usera}\n", 16, "memberships[0].group", "users"),
        ("/astro, vo: astro", "/astro, vo: astra", 17, "memberships[1].vo", "astro"),
        ("egi.eu:group:astro:role=member", "egi.eu:grp:astro", 16, "memberships[0]", "no entitlement"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(old: str, new: str, line: int, path: str, message: str) -> None:
    assert old in GOOD
    found = only(GOOD.replace(old, new, 1))
    assert found[0] == line
    assert found[1].endswith(path)
    assert message in found[2]


def test_an_issuer_has_one_provider() -> None:
    again = GOOD + GOOD[GOOD.index("  egi:") :].replace("  egi:\n", "  other:\n", 1)
    assert "is the same as identity_providers.egi.issuer" in only(again)[2]
