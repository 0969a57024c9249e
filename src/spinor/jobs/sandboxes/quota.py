"""What sandboxes may take: a limit for each, and quotas of the VO and of each user, from the operations data.

Whoever is about to store something reserves its size first, so that many at once stay below the quotas together. What
does not fit is refused, with what is used and what to do instead; it is never put elsewhere.
"""

from spinor.access import Caller
from spinor.configuration import service as configuration
from spinor.configuration.models import SandboxLimits
from spinor.db import Tx
from spinor.errors import BodyTooLarge
from spinor.jobs.models import SandboxRef, SandboxUse
from spinor.jobs.sandboxes import store
from spinor.jobs.sandboxes.store import Owner, StoredUpload
from spinor.quantities import shown_size


class SandboxTooLarge(BodyTooLarge):
    """This sandbox is larger than the VO's limit for one."""

    code = "sandbox-too-large"


class SandboxQuota(BodyTooLarge):
    """The sandboxes of the VO, or of this user, would take more than their quota."""

    code = "sandbox-quota"


_REMEDY = "put large files on a storage element and name them in input_data, or in output_data for results; "


def too_large(limits: SandboxLimits, size_bytes: int) -> SandboxTooLarge:
    return SandboxTooLarge(
        f"The sandbox has {shown_size(size_bytes)}, and one may have {shown_size(limits.limit_bytes)}: {_REMEDY}"
        "or ask your VO's administrator for a larger `sandboxes.limit`.",
        field="sandbox",
        limit_bytes=limits.limit_bytes,
        size_bytes=size_bytes,
    )


def _over(whose: str, setting: str, quota_bytes: int, used_bytes: int, size_bytes: int) -> SandboxQuota:
    return SandboxQuota(
        f"The sandboxes of {whose} take {shown_size(used_bytes)} of {shown_size(quota_bytes)}, and this one needs "
        f"{shown_size(size_bytes)} more: {_REMEDY}or delete jobs whose outputs you have fetched "
        f"(`spinor job delete`), or ask your VO's administrator for a larger `sandboxes.{setting}`.",
        field="sandbox",
        quota=setting,
        quota_bytes=quota_bytes,
        used_bytes=used_bytes,
        size_bytes=size_bytes,
    )


def check(limits: SandboxLimits, use: store.Use, size_bytes: int) -> None:
    """Raises SandboxTooLarge and SandboxQuota."""
    if size_bytes > limits.limit_bytes:
        raise too_large(limits, size_bytes)
    for whose, setting, quota_bytes, used_bytes in (
        ("yours", "user_quota", limits.user_quota_bytes, use.user_used_bytes),
        ("your VO", "quota", limits.quota_bytes, use.used_bytes),
    ):
        if quota_bytes is not None and used_bytes + size_bytes > quota_bytes:
            raise _over(whose, setting, quota_bytes, used_bytes, size_bytes)


async def reserve(tx: Tx, owner: Owner, sha256: str, size_bytes: int) -> SandboxRef | StoredUpload:
    """What the owner has already with this content; or a place for it, which counts from now on."""
    known = await store.touch_sandbox(tx, owner, sha256)
    return known or await reserve_upload(tx, owner, sha256, size_bytes)


async def reserve_upload(tx: Tx, owner: Owner, sha256: str, size_bytes: int) -> StoredUpload:
    """A place for this content, also when there is a sandbox of it."""
    begun = await store.touch_upload(tx, owner, sha256)
    if begun and begun.size_bytes == size_bytes:
        return begun
    if begun:  # One of the two sizes is a lie, and the checksum at the end will tell.
        await store.delete_upload(tx, owner, begun.upload_id)
    limits = await configuration.sandbox_limits(tx, owner.vo_id)
    if limits.quota_bytes is not None or limits.user_quota_bytes is not None:
        await store.lock_quota(tx, owner.vo_id)
        use = await store.find_use(tx, owner)
    else:
        use = store.Use(used_bytes=0, user_used_bytes=0)  # Nobody asks.
    check(limits, use, size_bytes)
    return await store.insert_upload(tx, owner, sha256, size_bytes)


async def sandbox_use(tx: Tx, caller: Caller) -> SandboxUse:
    """What the sandboxes of the caller's VO and the caller's own take, and may take."""
    limits = await configuration.sandbox_limits(tx, caller.vo_id)
    use = await store.find_use(tx, Owner(caller.vo_id, caller.user_id))
    return SandboxUse(
        limit_bytes=limits.limit_bytes,
        quota_bytes=limits.quota_bytes,
        used_bytes=use.used_bytes,
        user_quota_bytes=limits.user_quota_bytes,
        user_used_bytes=use.user_used_bytes,
    )
