"""The verbs of the operations data."""

from spinor.configuration import clients, rules, store
from spinor.configuration.checking import BadConfiguration, read_document
from spinor.configuration.models import (
    Applied,
    Difference,
    Document,
    FullRevision,
    Revision,
    SandboxLimits,
    Validity,
)
from spinor.configuration.work import WorkRules, work_rules
from spinor.db import Tx
from spinor.errors import Conflict, NotFound
from spinor.identity import service as identity
from spinor.identity.delegation import service as delegation
from spinor.identity.federation import service as federation
from spinor.identity.oauth.registry import service as registry
from spinor.resources import service as resources


class UnknownRevision(NotFound):
    """There is no such revision; see `spinor config history`."""

    code = "unknown-revision"


class RevisionOutdated(Conflict):
    """Somebody else has applied operations data since; look at `spinor config diff` again."""

    code = "revision-outdated"


def validate(text: str) -> Validity:
    """Every fault of a document, without a look at what is in force."""
    try:
        read_document(text)
    except BadConfiguration as error:
        return Validity(valid=False, faults=error.facts["faults"])
    return Validity(valid=True, faults=[])


async def show(tx: Tx, revision: int | None = None) -> FullRevision:
    """A revision with its document; without a number the one in force."""
    found = await (store.newest_revision(tx) if revision is None else store.find_revision(tx, revision))
    if found is None:
        raise UnknownRevision(
            "There are no operations data yet; run `spinor bootstrap`."
            if revision is None
            else f"There is no revision {revision}; see `spinor config history`."
        )
    return found


async def history(tx: Tx, *, before: int | None = None, limit: int = 100) -> list[Revision]:
    """The revisions, newest first, below `before`."""
    return await store.list_revisions(tx, before=before, limit=limit)


async def diff(tx: Tx, text: str) -> Difference:
    """What applying this document would change."""
    new = read_document(text)
    present = await store.newest_revision(tx)
    old = _in_force(present)
    return Difference(
        revision=present.revision if present else 0,
        changes=rules.differences(old, new),
        warnings=rules.warnings(old, new),
    )


async def apply(tx: Tx, text: str, *, author: str, base_revision: int | None = None, comment: str = "") -> Applied:
    """Put a document in force: a new revision, and the tables of identity and resources in line with it.

    BadConfiguration names all its faults. RevisionOutdated when `base_revision` is not the one in force any more. A
    text that is in force already changes nothing.
    """
    new = read_document(text)
    await store.lock_revisions(tx)
    present = await store.newest_revision(tx)
    number = present.revision if present else 0
    if base_revision is not None and base_revision != number:
        by = f" by {present.author}" if present else ""
        raise RevisionOutdated(
            f"Your changes were made from revision {base_revision}, and revision {number}{by} is in force now; "
            "look at `spinor config diff` again.",
            revision=number,
        )
    if present and rules.body_of(present.document) == rules.body_of(text):
        return Applied(revision=number, changes=[], warnings=[])
    old = _in_force(present)
    number = await store.insert_revision(tx, text, author, comment)
    await federation.refuse_taken_names(tx, rules.wanted_users(new))
    await identity.sync_members(tx, list(new.vos), rules.wanted_users(new), rules.wanted_groups(new))
    await delegation.sync_delegation(tx, rules.wanted_voms(new), rules.wanted_online_ca(new))
    await federation.sync_providers(tx, rules.wanted_providers(new))
    await registry.sync_clients(tx, clients.wanted_clients(new))
    await registry.sync_capabilities(tx, clients.wanted_capabilities(new))
    await resources.sync_elements(tx, rules.wanted_sites(new), rules.wanted_computing(new), rules.wanted_storage(new))
    await resources.set_fitness_policy(tx, rules.fitness_policy(new))
    await store.sync_sandbox_limits(tx, rules.wanted_sandbox_limits(new))
    await store.store_work_rules(tx, work_rules(new, number))
    return Applied(revision=number, changes=rules.differences(old, new), warnings=rules.warnings(old, new))


async def shares_and_limits(tx: Tx, known: WorkRules | None = None) -> WorkRules:
    """Shares and limits as they are in force; `known` itself when they have not changed since."""
    if known is not None and await store.find_revision_of_work_rules(tx) == known.revision:
        return known
    return await store.find_work_rules(tx)


async def sandbox_limits(tx: Tx, vo_id: int) -> SandboxLimits:
    """What sandboxes of a VO may take."""
    return await store.find_sandbox_limits(tx, vo_id) or SandboxLimits()


async def rollback(
    tx: Tx, revision: int, *, author: str, base_revision: int | None = None, comment: str = ""
) -> Applied:
    """Put an earlier revision's document in force again, as a new revision."""
    earlier = await show(tx, revision)
    comment = comment or f"Back to revision {revision}."
    return await apply(tx, earlier.document, author=author, base_revision=base_revision, comment=comment)


def _in_force(present: FullRevision | None) -> Document | None:
    """The document in force. One that a newer version of Spinor no longer understands counts as absent, so that it can
    be replaced."""
    if present is None:
        return None
    try:
        return read_document(present.document)
    except BadConfiguration:
        return None
