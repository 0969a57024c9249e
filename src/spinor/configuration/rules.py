"""Pure decisions about operations data: quantities, differences, and what they mean for the tables."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from spinor import quantities
from spinor.configuration.models import Change, ChangeKind, Document, SandboxLimits
from spinor.identity.delegation.models import OnlineCASetting, Voms, VomsHost
from spinor.identity.federation.models import MembershipRule, Provider
from spinor.identity.models import LinkedName, WantedGroup, WantedUser
from spinor.resources.models import FitnessPolicy, WantedComputingElement, WantedSite, WantedStorageElement

_LONGEST_S = 2**31 - 1


_HEADER = re.compile(r"\A# revision ([0-9]{1,18})\b[^\n]*\n?")


def base_of(text: str) -> int | None:
    """The revision that a document was made from, when its first line says so, as `spinor config show` writes it."""
    header = _HEADER.match(text)
    return int(header[1]) if header else None


def body_of(text: str) -> str:
    """The document without that line."""
    return _HEADER.sub("", text, count=1)


def size_bytes(value: int | str) -> int:
    """`4GB` is 4·10⁹ bytes, `4GiB` is 2³². ValueError says what is wrong."""
    if isinstance(value, str):
        text = value
        try:
            value = quantities.size_bytes(text)
        except ValueError as error:
            raise ValueError(f"{text[:40]!r} is not {error}") from None
    if not 0 < value < 2**63:
        raise ValueError("must be more than nothing and less than 8 EiB")
    return value


def duration_s(value: int | str) -> int:
    """`90m`, `12h`, `1h30m`; a bare number is seconds. ValueError says what is wrong."""
    if isinstance(value, str):
        text = value
        try:
            value = int(quantities.duration_s(text))
        except ValueError as error:
            raise ValueError(f"{text[:40]!r} is not {error}") from None
    if not 0 < value <= _LONGEST_S:
        raise ValueError("must be more than nothing and less than 68 years")
    return value


def wanted_users(document: Document) -> list[WantedUser]:
    return [
        WantedUser(
            name=name,
            full_name=user.full_name,
            email=user.email,
            subject=user.subject,
            identities=[LinkedName(issuer=each.issuer, subject=each.subject) for each in user.identities],
        )
        for name, user in document.users.items()
    ]


def wanted_groups(document: Document) -> list[WantedGroup]:
    return [
        WantedGroup(vo=vo, name=name, properties=group.properties, members=group.members)
        for vo, section in document.vos.items()
        for name, group in section.groups.items()
    ]


def wanted_voms(document: Document) -> list[Voms]:
    """Of the VOs that have attributes, by a server or by ourselves, or let them stand for groups."""
    return [
        Voms(
            vo=vo,
            name=section.voms.name or vo,
            servers=[VomsHost(host=each.host, port=each.port, subject=each.subject) for each in section.voms.servers],
            signs_itself=section.voms.sign_here,
            groups=section.voms.groups,
        )
        for vo, section in document.vos.items()
        if section.voms.servers or section.voms.sign_here or section.voms.groups
    ]


def wanted_online_ca(document: Document) -> OnlineCASetting:
    return OnlineCASetting(is_enabled=document.online_ca.enabled, longest_s=duration_s(document.online_ca.lifetime))


def fitness_policy(document: Document) -> FitnessPolicy:
    section = document.fitness
    return FitnessPolicy(
        window_s=duration_s(section.window),
        pilots_of_node=section.pilots_of_node,
        nodes=section.nodes,
        mask_s=duration_s(section.mask),
        black_hole_jobs=section.black_hole_jobs,
        black_hole_job_s=duration_s(section.black_hole_job),
        black_hole_window_s=duration_s(section.black_hole_window),
        probe_every_s=duration_s(section.probe_every),
        probe_failures=section.probe_failures,
    )


def wanted_sandbox_limits(document: Document) -> dict[str, SandboxLimits]:
    def bytes_of(value: int | str | None) -> int | None:
        return None if value is None else size_bytes(value)

    return {
        vo: SandboxLimits(
            limit_bytes=size_bytes(section.sandboxes.limit),
            quota_bytes=bytes_of(section.sandboxes.quota),
            user_quota_bytes=bytes_of(section.sandboxes.user_quota),
        )
        for vo, section in document.vos.items()
    }


_ALIKE = (
    "title", "issuer", "client_id", "client_secret_file", "ca_file", "hosts", "subject_claim", "assurance",
    "registration", "registration_vos", "exchange_clients", "exchange_audiences", "link_certificates",
)  # fmt: skip


def wanted_providers(document: Document) -> list[Provider]:
    return [
        Provider(
            name=name,
            recheck_s=duration_s(section.recheck),
            lapse_s=duration_s(section.lapse),
            memberships=[MembershipRule(**msgspec.structs.asdict(rule)) for rule in section.memberships],
            scopes=tuple(section.scopes),
            name_claims=tuple(section.name_claims),
            entitlements=tuple(section.entitlements),
            **{name: getattr(section, name) for name in _ALIKE},
        )
        for name, section in document.identity_providers.items()
    ]


def wanted_sites(document: Document) -> list[WantedSite]:
    return [
        WantedSite(name=name, max_pilots=section.max_pilots, administrators=section.administrators)
        for name, section in document.sites.items()
    ]


def wanted_computing(document: Document) -> list[WantedComputingElement]:
    return [
        WantedComputingElement(
            site=site,
            name=name,
            plugin=ce.plugin,
            cores=ce.cores,
            memory_bytes=size_bytes(ce.memory_bytes),
            wall_s=duration_s(ce.wall_s),
            max_pilots=ce.max_pilots,
            options=ce.options,
            vos=ce.vos,
            max_waiting=ce.max_waiting,
            max_pilots_of_vos=ce.max_pilots_of_vos,
            max_submissions_per_minute=ce.max_submissions_per_minute,
        )
        for site, section in document.sites.items()
        for name, ce in section.computing_elements.items()
    ]


def wanted_storage(document: Document) -> list[WantedStorageElement]:
    return [
        WantedStorageElement(
            site=site,
            name=name,
            plugin=se.plugin,
            root=se.root,
            read_only=se.read_only,
            options=se.options,
            vos=se.vos,
        )
        for site, section in document.sites.items()
        for name, se in section.storage_elements.items()
    ]


def differences(old: Document | None, new: Document) -> list[Change]:
    """What changes, by path. Lists of names are sets here: each name that came or went is a change of its own."""
    before = dict(_leaves(msgspec.to_builtins(old), "")) if old is not None else {}
    after = dict(_leaves(msgspec.to_builtins(new), ""))
    changes = []
    for path in sorted(before.keys() | after.keys()):
        if path not in before:
            changes.append(Change(kind=ChangeKind.ADDED, path=path, new=after[path]))
        elif path not in after:
            changes.append(Change(kind=ChangeKind.REMOVED, path=path, old=before[path]))
        elif before[path] != after[path]:
            changes.append(Change(kind=ChangeKind.CHANGED, path=path, old=before[path], new=after[path]))
    return changes


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and (value or not path):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        yield from ((f"{path}[{item}]", item) for item in value)
    else:
        yield path, value


def warnings(old: Document | None, new: Document) -> list[str]:
    """What an administrator should know before applying; nothing of it prevents it."""
    if old is None:
        return []
    storage = {se.name: se for se in wanted_storage(new)}
    computing = {ce.name for ce in wanted_computing(new)}
    found = [
        f"VO {vo} is retired: its members can no longer sign in; its jobs and files stay."
        for vo in sorted(old.vos.keys() - new.vos.keys())
    ]
    for se in wanted_storage(old):
        kept = storage.get(se.name)
        if kept is None:
            found.append(
                f"Storage element {se.name} is retired: replicas on it stay known, but cannot be read any more."
            )
        elif kept.root != se.root:
            found.append(f"Storage element {se.name} gets another root: replicas on it are looked for in {kept.root}.")
    found.extend(
        f"Computing element {ce.name} is retired: it gets no new pilots; those it has end by themselves."
        for ce in wanted_computing(old)
        if ce.name not in computing
    )
    return found
