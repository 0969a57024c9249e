"""Ada and Bea before their browsers, a program of each kind, and a second client that may do the same as the first."""

import pytest

from spinor.identity.oauth.clients import BUILT_IN, CODE, DEVICE, REFRESH, OAuthClient
from tests.identity.flows.people import Browser, Program
from tests.identity.workbench import Service

OTHER = OAuthClient(
    client_id="other",
    name="Another program <b>",
    grants=frozenset({CODE, DEVICE, REFRESH}),
    redirect_uris=("https://other.example/back?from=spinor", "http://127.0.0.1/callback"),
)


@pytest.fixture(autouse=True)
def other_client(monkeypatch: pytest.MonkeyPatch) -> OAuthClient:
    monkeypatch.setitem(BUILT_IN, OTHER.client_id, OTHER)
    return OTHER


@pytest.fixture
async def ada(service: Service) -> Browser:
    return await Browser(service).sign_in("ada")


@pytest.fixture
async def bea(service: Service) -> Browser:
    return await Browser(service, address="198.51.100.9").sign_in("bea")


@pytest.fixture
def program(service: Service) -> Program:
    return Program(service)


@pytest.fixture
def other(service: Service) -> Program:
    return Program(service, "other")
