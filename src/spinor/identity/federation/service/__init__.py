"""The verbs of federation."""

from spinor.identity.federation.service.exchange import ExchangeRefused, proven_by_token
from spinor.identity.federation.service.linking import (
    LastIdentity,
    SomebodyElses,
    link,
    list_identities,
    unlink,
)
from spinor.identity.federation.service.people import NotAdmitted, welcome
from spinor.identity.federation.service.providers import (
    UnknownProvider,
    list_providers,
    provider_named,
    refuse_taken_names,
    sync_providers,
)
from spinor.identity.federation.service.recheck import recheck
from spinor.identity.federation.service.registrations import (
    approve,
    ask_to_join,
    list_registrations,
    own_registrations,
    refuse,
)

__all__ = [
    "ExchangeRefused",
    "LastIdentity",
    "NotAdmitted",
    "SomebodyElses",
    "UnknownProvider",
    "approve",
    "ask_to_join",
    "link",
    "list_identities",
    "list_providers",
    "list_registrations",
    "own_registrations",
    "proven_by_token",
    "provider_named",
    "recheck",
    "refuse",
    "refuse_taken_names",
    "sync_providers",
    "unlink",
    "welcome",
]
