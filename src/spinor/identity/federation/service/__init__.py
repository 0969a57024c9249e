"""The verbs of federation."""

from spinor.identity.federation.service.exchange import ExchangeRefused, proven_by_token
from spinor.identity.federation.service.linking import (
    LastIdentity,
    SomebodyElses,
    identities_of,
    link,
    list_identities,
    unlink,
)
from spinor.identity.federation.service.people import NotAdmitted, admit, visitor_of_user, welcome
from spinor.identity.federation.service.providers import (
    UnknownProvider,
    list_providers,
    provider_named,
    refuse_taken_names,
    sync_providers,
)
from spinor.identity.federation.service.recheck import recheck, recheck_everybody
from spinor.identity.federation.service.registrations import (
    approve,
    ask_to_join,
    choices,
    delete_old_registrations,
    list_happenings,
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
    "admit",
    "approve",
    "ask_to_join",
    "choices",
    "delete_old_registrations",
    "identities_of",
    "link",
    "list_happenings",
    "list_identities",
    "list_providers",
    "list_registrations",
    "own_registrations",
    "proven_by_token",
    "provider_named",
    "recheck",
    "recheck_everybody",
    "refuse",
    "refuse_taken_names",
    "sync_providers",
    "unlink",
    "visitor_of_user",
    "welcome",
]
