"""Pure decisions about people from elsewhere: what they are given, what they are called, where they go next."""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from spinor.errors import BadInput
from spinor.identity.federation import entitlements
from spinor.identity.federation.models import Facts, MembershipRule, Provider
from spinor.identity.models import LinkedName

ASSURANCE_CLAIM = "eduperson_assurance"
WLCG_CLAIM = "wlcg.groups"
CERTIFICATES_CLAIM = "cert_entitlement"
_MOST_VALUES = 2000
_LONGEST_VALUE = 1024
_LONGEST_NAME = 32
_LONGEST_NEXT = 4096
_NOT_IN_NAMES = re.compile(r"[^a-z0-9._-]+")
_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_IN_ADDRESS = re.compile(r"[!-\[\]-~]+")  # Printable ASCII, and no backslash: browsers take that for a slash.
# Names that people could take for the service's own.
_RESERVED = frozenset(
    {"root", "admin", "administrator", "operator", "spinor", "pilot", "system", "nobody", "service", "support"}
)


def facts_of(provider: Provider, claims: Mapping[str, Any]) -> Facts:
    """What the provider says that decides something here; what is no text is not taken for any."""
    said = [(claim, value) for claim in provider.entitlements for value in _texts(claims.get(claim))]
    return Facts(
        entitlements=_unique(value for claim, value in said if claim != WLCG_CLAIM and _is_urn(value)),
        wlcg_groups=_unique(value for claim, value in said if claim == WLCG_CLAIM),
        groups=_unique(value for claim, value in said if claim != WLCG_CLAIM and not _is_urn(value)),
        assurance=_unique(_texts(claims.get(ASSURANCE_CLAIM))),
    )


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values[:_MOST_VALUES] if isinstance(each, str) and 0 < len(each) <= _LONGEST_VALUE]


def _unique(values: Iterator[str] | list[str]) -> list[str]:
    return sorted(set(values))


def _is_urn(value: str) -> bool:
    return value[:4].lower() == "urn:"


def roles_of(provider: Provider, facts: Facts) -> list[tuple[str, str]]:
    """The VOs and groups that the provider's rules give to whom it says this about, when it is sure enough."""
    if not is_assured(provider, facts):
        return []
    held = [each for text in facts.entitlements if (each := _parsed(text)) is not None]
    return sorted({(rule.vo, rule.group) for rule in provider.memberships if _fits(rule, facts, held)})


def is_assured(provider: Provider, facts: Facts) -> bool:
    """Whether the provider has looked closely enough at who this is."""
    return not provider.assurance or not set(provider.assurance).isdisjoint(facts.assurance)


def _fits(
    rule: MembershipRule, facts: Facts, held: Sequence[entitlements.GroupEntitlement | entitlements.Capability]
) -> bool:
    if rule.anyone:
        return True
    if rule.entitlement:
        needed = _parsed(rule.entitlement)
        return needed is not None and any(entitlements.covers(each, needed) for each in held)
    if rule.wlcg_group:
        return rule.wlcg_group in facts.wlcg_groups
    # Keycloak writes a group's path with a slash in front, INDIGO IAM without.
    return bool(rule.provider_group) and rule.provider_group.lstrip("/") in {g.lstrip("/") for g in facts.groups}


def _parsed(text: str) -> entitlements.GroupEntitlement | entitlements.Capability | None:
    try:
        return entitlements.parse(text)
    except entitlements.NotAnEntitlement:
        return None


def rule_fault(rule: MembershipRule) -> str:
    """What is wrong with a rule by itself; empty when nothing is."""
    given = [rule.entitlement, rule.wlcg_group, rule.provider_group, "anyone" if rule.anyone else ""]
    if sum(bool(each) for each in given) != 1:
        return "needs one of entitlement, wlcg_group, provider_group and anyone: true"
    try:
        if rule.entitlement:
            entitlements.parse(rule.entitlement)
        if rule.wlcg_group:
            entitlements.parse_wlcg_group(rule.wlcg_group)
    except BadInput as error:
        return error.message
    return ""


def is_issuer(text: str) -> bool:
    """Whether this can be the issuer of an OpenID provider (Discovery 1.0 section 3)."""
    try:
        parts = urlsplit(text)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        return False
    right = parts.scheme == "https" and bool(parts.hostname) and not parts.query and not parts.fragment
    return right and port_is_right and "@" not in parts.netloc and bool(_IN_ADDRESS.fullmatch(text))


def line(value: Any, longest: int = 255) -> str:
    """A claim as one line that can be shown: no control characters, nothing that turns the writing round."""
    return " ".join(_LINE.sub(" ", value).split())[:longest] if isinstance(value, str) else ""


def wanted_name(provider: Provider, claims: Mapping[str, Any]) -> str:
    """The name that a person's account should have: plain letters of one of the provider's names for them."""
    for claim in provider.name_claims:
        name = account_name(line(claims.get(claim)).partition("@")[0])
        if name:
            return name
    return "user"


def account_name(text: str) -> str:
    """The text as a name of small plain letters; empty when nothing is left of it."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = _NOT_IN_NAMES.sub(".", plain).strip("._-")[:_LONGEST_NAME].strip("._-")
    return name if name and not name.isdigit() else ""


def free_name(wanted: str, taken: Collection[str]) -> str:
    """The name, with a number behind it when it is somebody's already or looks like the service's own."""
    if wanted not in taken and wanted not in _RESERVED:
        return wanted
    number = 2
    while f"{wanted}{number}" in taken:
        number += 1
    return f"{wanted}{number}"


def certificates_of(claims: Mapping[str, Any]) -> list[LinkedName]:
    """The certificates that Check-in says are this person's, where it names them as grid tools do (/DC=org/…)."""
    value = claims.get(CERTIFICATES_CLAIM)
    found = []
    for each in value[:50] if isinstance(value, list) else []:
        if isinstance(each, dict):
            issuer, subject = each.get("cert_iss"), each.get("cert_subject_dn")
            if _is_dn(issuer) and _is_dn(subject):
                found.append(LinkedName(issuer=str(issuer), subject=str(subject)))
    return found


def _is_dn(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/") and "=" in value and len(value) <= _LONGEST_VALUE


def next_path(given: str, otherwise: str = "/login") -> str:
    """Where a browser goes after signing in: a path of this service, whatever it was asked to."""
    if len(given) > _LONGEST_NEXT or not _IN_ADDRESS.fullmatch(given) or not given.startswith("/"):
        return otherwise
    try:
        parts = urlsplit(given)
    except ValueError:
        return otherwise
    if parts.scheme or parts.netloc or given.startswith("//") or parts.path.startswith("//"):
        return otherwise
    return given
