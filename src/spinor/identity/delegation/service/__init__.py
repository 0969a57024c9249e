"""The verbs of delegation."""

from collections.abc import Sequence

from spinor.db import Tx
from spinor.identity.delegation import store
from spinor.identity.delegation.models import OnlineCASetting, Voms
from spinor.identity.delegation.service.certifying import crl, issue_certificate, published_ca, renew_crl
from spinor.identity.delegation.service.downloads import delegate_proxy, new_proxy
from spinor.identity.delegation.service.sign_in import link_certificate, proven_by_assertion
from spinor.identity.delegation.service.uploads import list_proxies, remove_proxies, request_proxy, store_proxy
from spinor.identity.delegation.store import EndingProxy

__all__ = [
    "crl",
    "delegate_proxy",
    "delete_ended",
    "issue_certificate",
    "link_certificate",
    "list_proxies",
    "new_proxy",
    "proven_by_assertion",
    "published_ca",
    "remind_of_proxies",
    "remove_proxies",
    "renew_crl",
    "request_proxy",
    "store_proxy",
    "sync_delegation",
]


async def sync_delegation(tx: Tx, voms: Sequence[Voms], online_ca: OnlineCASetting) -> None:
    """Bring VOMS and the online CA in line with the operations data."""
    await store.sync_voms(tx, voms)
    await store.sync_online_ca(tx, online_ca)


async def delete_ended(tx: Tx) -> int:
    """Delete proxies and requests that have expired, and groups that VOMS has vouched for too long ago."""
    await store.end_voms_memberships(tx)
    await store.delete_ended_certificates(tx)
    return await store.delete_ended_proxies(tx)


async def remind_of_proxies(tx: Tx) -> list[EndingProxy]:
    """Proxies that end within a week, each once."""
    return await store.remind_of_proxies(tx)
