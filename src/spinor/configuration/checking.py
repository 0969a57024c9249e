"""From what was read to a Document, with every fault on the way and not only the first."""

import difflib
import re
import typing
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any

import msgspec

from spinor.access import SCOPES_BY_PROPERTY, Scope
from spinor.configuration import rules
from spinor.configuration.clients import check_capabilities, check_client
from spinor.configuration.models import (
    NAME_PATTERN,
    CapabilitiesSection,
    ClientSection,
    ComputingElementSection,
    Document,
    FitnessSection,
    GroupSection,
    IdentityProviderSection,
    MembershipSection,
    OnlineCASection,
    SandboxesSection,
    Section,
    SharesSection,
    SiteSection,
    StorageElementSection,
    UserSection,
    VOMSSection,
)
from spinor.configuration.plugins import computing_plugins, storage_plugins
from spinor.configuration.reading import Path, Source, shown_path
from spinor.configuration.work import check_limits
from spinor.errors import BadInput
from spinor.identity.delegation.models import LONGEST_CERTIFICATE_S
from spinor.identity.federation import rules as federation
from spinor.identity.federation.models import MembershipRule

_FQAN = re.compile(r"(/[A-Za-z0-9._~-]+)+(/Role=[A-Za-z0-9._~-]+)?")
_CHANGING_CLAIMS = ("email", "preferred_username", "name", "nickname", "upn")
_ADMINISTRATION = "configuration_administrator"


class BadConfiguration(BadInput):
    """The operations data have faults; nothing was changed."""

    code = "bad-configuration"


class _Wrong(Exception):
    """This part is left out; its fault is noted."""


def read_document(text: str) -> Document:
    """The document, or BadConfiguration with every fault, in the order of the lines."""
    source = Source(text)
    document = checked(source)
    faults = sorted(set(source.faults), key=lambda fault: (fault.line, fault.path, fault.message))
    if faults or document is None:
        lines = [f"line {f.line}: {f.path}: {f.message}" if f.path else f"line {f.line}: {f.message}" for f in faults]
        head = (
            "The operations data have a fault:"
            if len(faults) == 1
            else f"The operations data have {len(faults)} faults:"
        )
        raise BadConfiguration("\n  ".join([head, *lines]), faults=faults)
    return document


def checked(source: Source) -> Document | None:
    """What can be understood of the source; its faults are added to it. None when it is no document at all."""
    if source.value is None and source.faults:
        return None
    try:
        document: Document = _section(source, source.value, Document, ())
    except _Wrong:
        return None
    return document


def _part(source: Source, value: Any, kind: Any, path: Path) -> Any:
    """A value as the type that belongs there; _Wrong after its faults are noted."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Section):
        return _section(source, value, kind, path)
    if origin is dict and isinstance(arguments[1], type) and issubclass(arguments[1], Section):
        return _named_sections(source, value, arguments[0], arguments[1], path)
    if origin is list:
        if not isinstance(value, list | NoneType):
            return _refuse(source, path, f"must be a list, and is {_described(value)}")
        items = [_tried(source, item, arguments[0], (*path, n)) for n, item in enumerate(value or [])]
        return [item[0] for item in items if item]
    if origin is dict and value is None:
        return {}
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return _refuse(source, path, f"{str(error).partition(' - at ')[0]}".replace("`", ""))


def _section(source: Source, value: Any, kind: Any, path: Path) -> Any:
    if not isinstance(value, dict | NoneType):
        return _refuse(source, path, f"must be a mapping (name: value), and is {_described(value)}")
    given: dict[str, Any] = value or {}
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name in given.keys() - fields.keys():
        source.fault((*path, name), f"there is no {name!r} here; {_known(name, fields)}")
    found = {}
    for name, field in fields.items():
        if name in given:
            converted = _tried(source, given[name], field.type, (*path, name))
            if converted:
                found[name] = converted[0]
        elif field.required:
            source.fault(path, f"{name!r} is missing")
    if kind in _CHECKS:
        _CHECKS[kind](source, found, path)
    if any(field.required and name not in found for name, field in fields.items()):
        raise _Wrong
    return kind(**found)


def _named_sections(source: Source, value: Any, name_kind: Any, kind: Any, path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not isinstance(value, dict | NoneType):
        _refuse(source, path, f"must be a mapping (name: …), and is {_described(value)}")
    for name, section in (value or {}).items():
        try:
            msgspec.convert(name, name_kind)
        except msgspec.ValidationError:
            source.fault(
                (*path, name), "a name is 1 to 63 letters, digits and _ . @ - and begins with a letter or a digit"
            )
        converted = _tried(source, section, kind, (*path, name))
        if converted:
            found[name] = converted[0]
    return found


def _tried(source: Source, value: Any, kind: Any, path: Path) -> tuple[Any] | None:
    try:
        return (_part(source, value, kind, path),)
    except _Wrong:
        return None


def _refuse(source: Source, path: Path, message: str) -> Any:
    source.fault(path, message)
    raise _Wrong


def _described(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "empty")


def _known(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"


def _check_group(source: Source, found: dict[str, Any], path: Path) -> None:
    _check_names(source, found.get("properties", []), (*path, "properties"), "property", SCOPES_BY_PROPERTY)
    _check_names(source, found.get("members", []), (*path, "members"), "user", source.keys(("users",)))


def _check_voms(source: Source, found: dict[str, Any], path: Path) -> None:
    """`path` is that of the VO's section of VOMS."""
    name = found.get("name") or path[1]
    groups = source.keys((*path[:2], "groups"))
    for fqan, group in found.get("groups", {}).items():
        if not _FQAN.fullmatch(fqan) or fqan.split("/")[1] != name:
            source.fault((*path, "groups", fqan), f"is no attribute of {name}, as /{name} or /{name}/Role=production")
        if group not in groups:
            source.fault((*path, "groups", fqan), f"there is no group {group!r} of this VO; {_known(group, groups)}")
    if found.get("servers") and found.get("sign_here"):
        source.fault((*path, "sign_here"), "is for VOs without a VOMS server, and there are `servers`")


def _check_online_ca(source: Source, found: dict[str, Any], path: Path) -> None:
    _check_quantity(source, _certificate_s, found, (*path, "lifetime"))


def _check_sandboxes(source: Source, found: dict[str, Any], path: Path) -> None:
    for name in ("limit", "quota", "user_quota"):
        if found.get(name) is not None:
            _check_quantity(source, rules.size_bytes, found, (*path, name))


def _certificate_s(value: int | str) -> int:
    seconds = rules.duration_s(value)
    if not 600 <= seconds <= LONGEST_CERTIFICATE_S:
        raise ValueError("must be from 10 minutes to 11 days")
    return seconds


def _check_shares(source: Source, found: dict[str, Any], path: Path) -> None:
    """`path` is that of the VO's section of shares."""
    _check_quantity(source, rules.duration_s, found, (*path, "half_life"))
    for kind, noun, known in (
        ("groups", "group", source.keys((*path[:2], "groups"))),
        ("users", "user", source.keys(("users",))),
    ):
        for name in found.get(kind, {}):
            _check_one(source, name, (*path, kind, name), noun, known)


def _check_computing(source: Source, found: dict[str, Any], path: Path) -> None:
    _check_plugin(source, found, path, computing_plugins())
    _check_names(source, found.get("vos", []), (*path, "vos"), "VO", source.keys(("vos",)))
    _check_quantity(source, rules.size_bytes, found, (*path, "memory_bytes"))
    _check_quantity(source, rules.duration_s, found, (*path, "wall_s"))
    for vo in found.get("max_pilots_of_vos", {}):
        if vo not in found.get("vos", []):
            source.fault((*path, "max_pilots_of_vos", vo), f"VO {vo!r} is not among the VOs of this element")


def _check_fitness(source: Source, found: dict[str, Any], path: Path) -> None:
    for name in ("window", "mask", "black_hole_job", "black_hole_window", "probe_every"):
        _check_quantity(source, rules.duration_s, found, (*path, name))


def _check_site(source: Source, found: dict[str, Any], path: Path) -> None:
    _check_names(source, found.get("administrators", []), (*path, "administrators"), "user", source.keys(("users",)))


def _check_storage(source: Source, found: dict[str, Any], path: Path) -> None:
    _check_plugin(source, found, path, storage_plugins())
    _check_names(source, found.get("vos", []), (*path, "vos"), "VO", source.keys(("vos",)))
    if found.get("plugin") == "file" and not found.get("root", "/").startswith("/"):
        source.fault((*path, "root"), "must be an absolute path, as the plugin file keeps a directory")


def _check_membership(source: Source, found: dict[str, Any], path: Path) -> None:
    if not {"vo", "group"} <= found.keys():
        return
    rule = MembershipRule(**found)
    fault = federation.rule_fault(rule)
    if fault:
        source.fault(path, fault)
    _check_one(source, rule.vo, (*path, "vo"), "VO", source.keys(("vos",)))
    if rule.vo in source.keys(("vos",)):
        _check_one(source, rule.group, (*path, "group"), "group", source.keys(("vos", rule.vo, "groups")))


def _check_provider(source: Source, found: dict[str, Any], path: Path) -> None:
    issuer = found.get("issuer", "https://x")
    if not federation.is_issuer(issuer):
        source.fault((*path, "issuer"), "must be an https address without ? and #, as the provider writes it")
    if "openid" not in found.get("scopes", ["openid"]):
        source.fault((*path, "scopes"), "must have openid among them, since otherwise nobody says who signs in")
    if found.get("subject_claim") in _CHANGING_CLAIMS:
        source.fault(
            (*path, "subject_claim"), "may be given to somebody else later, and so says nothing about who it is"
        )
    secret_file, ca_file = found.get("client_secret_file", ""), found.get("ca_file", "")
    if secret_file and not re.fullmatch(NAME_PATTERN, secret_file):
        source.fault((*path, "client_secret_file"), "must be the plain name of a file below <data>/secrets/providers")
    if ca_file and not ca_file.startswith("/"):
        source.fault((*path, "ca_file"), "must be an absolute path")
    _check_names(source, found.get("registration_vos", []), (*path, "registration_vos"), "VO", source.keys(("vos",)))
    _check_quantity(source, rules.duration_s, found, (*path, "recheck"))
    _check_quantity(source, rules.duration_s, found, (*path, "lapse"))


def _check_one(source: Source, name: str, path: Path, noun: str, known: Iterable[str]) -> None:
    if name not in known:
        source.fault(path, f"there is no {noun} {name!r}; {_known(name, known)}")


def _check_whole(source: Source, found: dict[str, Any], _path: Path) -> None:
    """What only the whole document shows: names that must be unique over all sections of a kind."""
    sites = sorted(source.keys(("sites",)))
    for kind in ("computing_elements", "storage_elements"):
        places = [("sites", site, kind, name) for site in sites for name in sorted(source.keys(("sites", site, kind)))]
        _check_unique(source, [(place[3], place) for place in places])
    users: dict[str, UserSection] = found.get("users", {})
    _check_unique(source, [(user.subject, ("users", name, "subject")) for name, user in users.items() if user.subject])
    _check_unique(
        source,
        [
            ((each.issuer, each.subject), ("users", name, "identities", n))
            for name, user in users.items()
            for n, each in enumerate(user.identities)
        ],
    )
    for vo in found.get("shares", {}):
        _check_one(source, vo, ("shares", vo), "VO", source.keys(("vos",)))
    check_limits(source, found.get("limits", []))
    providers: dict[str, IdentityProviderSection] = found.get("identity_providers", {})
    _check_unique(source, [(each.issuer, ("identity_providers", name, "issuer")) for name, each in providers.items()])
    groups = [group for vo in found.get("vos", {}).values() for group in vo.groups.values()]
    if not source.faults and not any(group.members for group in groups if _ADMINISTRATION in group.properties):
        source.fault(
            ("vos",), f"no group with the property {_ADMINISTRATION} has a member; nobody could ever change this again"
        )


def _check_unique(source: Source, places: list[tuple[Any, Path]]) -> None:
    """Each value has one place: elements are addressed by their name alone, and a subject is one person."""
    first: dict[Any, Path] = {}
    for value, place in places:
        if first.setdefault(value, place) != place:
            source.fault(place, f"is the same as {shown_path(first[value])}")


def _check_names(source: Source, names: list[str], path: Path, noun: str, known: Iterable[str]) -> None:
    """Each name is known, and there once."""
    written, seen = source.at(path), set()
    for name in names:
        places = [n for n, item in enumerate(written) if item == name]
        if name in seen:
            continue
        seen.add(name)
        if name not in known:
            source.fault((*path, places[0]), f"there is no {noun} {name!r}; {_known(name, known)}")
        for place in places[1:]:
            source.fault((*path, place), f"{name!r} is there twice")


def _check_plugin(source: Source, found: dict[str, Any], path: Path, known: list[str]) -> None:
    plugin = found.get("plugin")
    if plugin is not None and plugin not in known:
        source.fault((*path, "plugin"), f"there is no plugin {plugin!r}; {_known(plugin, known)}")


def _check_quantity(source: Source, parse: Callable[[int | str], int], found: dict[str, Any], path: Path) -> None:
    try:
        if path[-1] in found:
            parse(found[path[-1]])
    except ValueError as error:
        source.fault(path, str(error))


_CHECKS: dict[type[Section], Callable[[Source, dict[str, Any], Path], None]] = {
    GroupSection: _check_group,
    CapabilitiesSection: check_capabilities,
    ClientSection: check_client,
    VOMSSection: _check_voms,
    OnlineCASection: _check_online_ca,
    SharesSection: _check_shares,
    SandboxesSection: _check_sandboxes,
    ComputingElementSection: _check_computing,
    SiteSection: _check_site,
    FitnessSection: _check_fitness,
    StorageElementSection: _check_storage,
    MembershipSection: _check_membership,
    IdentityProviderSection: _check_provider,
    Document: _check_whole,
}


def schema() -> dict[str, Any]:
    """The published JSON Schema of the operations data (draft 2020-12)."""
    found = msgspec.json.schema(Document)
    properties = found["$defs"]["GroupSection"]["properties"]["properties"]
    properties["items"] = {"enum": sorted(SCOPES_BY_PROPERTY)}
    properties["description"] = f"Each stands for some of the scopes {', '.join(scope.value for scope in Scope)}."
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Spinor operations data", **found}
