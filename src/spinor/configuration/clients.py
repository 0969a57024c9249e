"""The checks of registered clients and of capability rules, and what they mean for the tables of identity."""

import re
from typing import Any
from urllib.parse import urlsplit

from spinor.access import SCOPES_BY_PROPERTY, Scope
from spinor.configuration.models import ActsAsSection, CapabilitiesSection, ClientSection, Document
from spinor.configuration.reading import Path, Source
from spinor.identity.oauth.capability_scopes import capability
from spinor.identity.oauth.registry.models import (
    GRANT_NAMES,
    RESERVED_PREFIX,
    ActsAs,
    CapabilityRule,
    ClientKind,
    RegisteredClient,
    VOCapabilities,
)

_GRANTS_BY_KIND = {
    ClientKind.PUBLIC: {"authorization_code", "refresh_token", "device_code"},
    ClientKind.CONFIDENTIAL: {"authorization_code", "refresh_token", "device_code", "token_exchange"},
    ClientKind.SERVICE: {"client_credentials", "token_exchange"},
}
_PRIVATE_PARTS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_AUDIENCE = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@]+(/[^\s?#]*[^\s?#/])?")
_URL_SCHEMES = ("https", "davs", "root", "roots", "xroot", "xroots")
_SMALLEST_RSA_BITS = 2048


def check_client(source: Source, found: dict[str, Any], path: Path) -> None:
    kind, grants = found.get("kind"), found.get("grants", [])
    if str(path[-1]).startswith(RESERVED_PREFIX):
        source.fault(path, f"names that begin with {RESERVED_PREFIX} are those of Spinor's own clients")
    for n, grant in enumerate(grants):
        if kind is not None and grant not in _GRANTS_BY_KIND[kind]:
            source.fault((*path, "grants", n), f"a {kind} client cannot use {grant}")
    if "authorization_code" in grants and not found.get("redirect_uris"):
        source.fault(path, "the grant authorization_code needs redirect_uris")
    for n, uri in enumerate(found.get("redirect_uris", [])):
        fault = _fault_of_address(uri)
        if fault:
            source.fault((*path, "redirect_uris", n), fault)
    for n, scope in enumerate(found.get("scopes", [])):
        if scope not in set(Scope):
            source.fault((*path, "scopes", n), f"there is no scope {scope!r}")
    _check_proof(source, found, path)
    _check_role(source, found, path)


def _fault_of_address(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme != "https" or not parts.hostname:
        return "must be an https address"
    if parts.fragment or "#" in uri or parts.username is not None or "*" in uri:
        return "must be one whole address: no fragment, no user, no wildcard"
    return ""


def _check_proof(source: Source, found: dict[str, Any], path: Path) -> None:
    """A public client has nothing to prove itself with; every other one exactly one thing."""
    kind, keys = found.get("kind"), found.get("jwks", [])
    proofs = [name for name in ("secret_file", "jwks") if found.get(name)]
    if kind == ClientKind.PUBLIC and proofs:
        source.fault((*path, proofs[0]), "a public client cannot keep a secret; make it confidential")
    if kind in (ClientKind.CONFIDENTIAL, ClientKind.SERVICE) and len(proofs) != 1:
        source.fault(path, "needs either secret_file or jwks")
    for n, key in enumerate(keys):
        fault = _fault_of_key(key)
        if fault:
            source.fault((*path, "jwks", n), fault)
    if found.get("introspect") and kind == ClientKind.PUBLIC:
        source.fault((*path, "introspect"), "a public client cannot ask about tokens")


def _fault_of_key(key: dict[str, Any]) -> str:
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, JWKRegistry, RSAKey

    if not _PRIVATE_PARTS.isdisjoint(key):
        return "is a private key: anybody who reads these data could use it; make a new one and give its public half"
    try:
        read = JWKRegistry.import_key(key)
    except (JoseError, ValueError, KeyError, TypeError):
        return "is not a public key as a JWK"
    if isinstance(read, ECKey) and read.curve_name == "P-256":
        return ""
    if isinstance(read, RSAKey) and read.raw_value.key_size >= _SMALLEST_RSA_BITS:
        return ""
    return f"must be an EC key on P-256, or an RSA key of {_SMALLEST_RSA_BITS} bits or more"


def _check_role(source: Source, found: dict[str, Any], path: Path) -> None:
    role: ActsAsSection | None = found.get("acts_as")
    if (found.get("kind") == ClientKind.SERVICE) != (role is not None):
        source.fault(path, "acts_as says in whose role a service acts: services need it, and others cannot have it")
    if role is None:
        return
    group = source.at(("vos", role.vo, "groups", role.group))
    if role.user not in source.keys(("users",)):
        source.fault((*path, "acts_as"), f"there is no user {role.user!r}")
    elif not isinstance(group, dict):
        source.fault((*path, "acts_as"), f"there is no group {role.group!r} in VO {role.vo!r}")
    elif role.user not in (group.get("members") or []):
        source.fault((*path, "acts_as"), f"{role.user!r} is no member of {role.group!r}")


def check_capabilities(source: Source, found: dict[str, Any], path: Path) -> None:
    for n, audience in enumerate(found.get("audiences", [])):
        if not _AUDIENCE.fullmatch(audience):
            source.fault((*path, "audiences", n), "must be an address without a slash at its end")
    groups = source.keys((*path[:-1], "groups"))
    for n, rule in enumerate(found.get("rules", [])):
        here = (*path, "rules", n)
        if not rule.groups and not rule.properties:
            source.fault(here, "says for nobody; name groups or properties")
        for scope in rule.scopes:
            try:
                capability(scope.replace("{user}", "user"))
            except ValueError as error:
                source.fault((*here, "scopes"), f"{scope!r} {error}")
        for group in set(rule.groups) - groups:
            source.fault((*here, "groups"), f"there is no group {group!r} in this VO")
        for name in set(rule.properties) - SCOPES_BY_PROPERTY.keys():
            source.fault((*here, "properties"), f"there is no property {name!r}")


def wanted_clients(document: Document) -> list[RegisteredClient]:
    return [
        RegisteredClient(
            client_id=client_id,
            name=client.name,
            kind=ClientKind(client.kind),
            grants=[GRANT_NAMES[grant] for grant in client.grants],
            redirect_uris=client.redirect_uris,
            secret_file=client.secret_file or "",
            jwks=client.jwks,
            acts_as=_role(client),
            scopes=client.scopes,
            exchange_from=client.exchange_from,
            introspect=client.introspect,
        )
        for client_id, client in document.clients.items()
    ]


def _role(client: ClientSection) -> ActsAs | None:
    role = client.acts_as
    return None if role is None else ActsAs(user=role.user, vo=role.vo, group=role.group)


def wanted_capabilities(document: Document) -> list[VOCapabilities]:
    return [
        VOCapabilities(
            vo=vo,
            audiences=sorted({*section.capabilities.audiences, *_audiences_of_elements(document, vo)}),
            rules=_rules(section.capabilities),
        )
        for vo, section in document.vos.items()
    ]


def _rules(section: CapabilitiesSection) -> list[CapabilityRule]:
    return [
        CapabilityRule(scopes=rule.scopes, groups=rule.groups, properties=rule.properties) for rule in section.rules
    ]


def _audiences_of_elements(document: Document, vo: str) -> set[str]:
    """How tokens name the elements that a VO may use: their option `audience`, or the address of a storage's root."""
    found: set[str] = set()
    for site in document.sites.values():
        options = [element.options for element in site.computing_elements.values() if vo in element.vos]
        options += [element.options for element in site.storage_elements.values() if vo in element.vos]
        for said in [each.get("audience", []) for each in options]:
            found |= {each for each in ([said] if isinstance(said, str) else said) if isinstance(each, str)}
        for storage in site.storage_elements.values():
            parts = urlsplit(storage.root)
            if vo in storage.vos and "audience" not in storage.options and parts.scheme in _URL_SCHEMES:
                found.add(f"https://{parts.netloc.rpartition('@')[2].removesuffix(':443')}")
    return found
