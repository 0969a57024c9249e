"""The verbs of quotas."""

from collections.abc import Sequence

from spinor.access import Caller, Scope
from spinor.catalog.access.naming import Ids
from spinor.catalog.errors import BadQuota, UnknownQuota
from spinor.catalog.quotas import store
from spinor.catalog.quotas.models import Quota, QuotaSetting, QuotaSubject
from spinor.catalog.quotas.store import Subject
from spinor.catalog.service.directories import required_directory
from spinor.catalog.service.permissions import permissions
from spinor.db import Tx
from spinor.resources import service as resources


async def set_quotas(tx: Tx, caller: Caller, settings: Sequence[QuotaSetting]) -> list[Quota]:
    """Put quotas in place, all or nothing; how they are now. They may be below what is used: then nothing comes in.

    Raises BadQuota, UnknownUser, UnknownDirectory, UnknownStorageElement, Denied.
    """
    caller.require(Scope.FILES_MANAGE)
    subjects = [await _subject(tx, caller, setting) for setting in settings]
    for setting, subject in zip(settings, subjects, strict=True):
        _require_any(subject)
        if setting.max_files is None and setting.max_bytes is None:
            raise BadQuota("A quota limits files (max_files), bytes (max_bytes) or both; this one limits nothing.")
    if len(set(subjects)) < len(subjects):
        raise BadQuota("Two of the quotas are for the same; nothing was set.")
    await store.set_quotas(tx, caller, subjects, settings)
    found = [await store.find_quotas(tx, caller, subject, None) for subject in subjects]
    wanted = [(setting.user, _path(setting.directory), setting.se) for setting in settings]
    return [
        _shown(next(quota for quota in quotas if (quota.user, quota.directory, quota.se) == names))
        for quotas, names in zip(found, wanted, strict=True)
    ]


async def find_quotas(tx: Tx, caller: Caller, subject: QuotaSubject) -> list[Quota]:
    """The quotas that concern a user, a directory or a storage element, or all; with what is used.

    Who does not manage files sees their own, and those of directories that they can reach and of storage elements.
    """
    manages = caller.may(Scope.FILES_MANAGE)
    found = await store.find_quotas(
        tx, caller, await _subject(tx, caller, subject), None if manages else caller.user_id
    )
    mine = await (await permissions(tx, caller)).learn((), {quota.gate_id for quota in found if quota.gate_id})
    return [_shown(quota) for quota in found if quota.gate_id is None or mine.passes(quota.gate_id)]


async def remove_quotas(tx: Tx, caller: Caller, subjects: Sequence[QuotaSubject]) -> int:
    """Remove quotas, all or nothing; how many. Raises UnknownQuota."""
    caller.require(Scope.FILES_MANAGE)
    known = list(dict.fromkeys([await _subject(tx, caller, subject) for subject in subjects]))
    for subject in known:
        _require_any(subject)
    removed = await store.remove_quotas(tx, caller, known)
    if removed < len(known):
        raise UnknownQuota(
            f"{len(known) - removed} of the quotas are not there; nothing was removed. See `spinor file quota show`."
        )
    return removed


async def _subject(tx: Tx, caller: Caller, given: QuotaSubject) -> Subject:
    ids = await Ids.of_known(tx, caller, {given.user} if given.user is not None else set(), set())
    directory_id, se_id = None, None
    if given.directory is not None:
        directory_id = (await required_directory(tx, caller, given.directory)).directory_id
    if given.se is not None:
        se_id = (await resources.storage_element(tx, caller, given.se)).se_id
    return Subject(ids.users[given.user] if given.user is not None else None, directory_id, se_id)


def _require_any(subject: Subject) -> None:
    if subject == Subject(None, None, None):
        raise BadQuota("A quota is for a user, a directory, a storage element, or a combination; name one.")


def _path(directory: str | None) -> str | None:
    return None if directory is None else directory.rstrip("/")


def _shown(quota: store.FoundQuota) -> Quota:
    return Quota(**{name: getattr(quota, name) for name in Quota.__struct_fields__})
