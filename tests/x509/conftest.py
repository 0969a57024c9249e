"""The usual PKI on disk, once per process, and the store that trusts it."""

from pathlib import Path

import pytest

from spinor.x509.trust import TrustStore
from tests.x509.pki import Pki, make_pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    home: Path = tmp_path_factory.mktemp("pki")
    return make_pki(home)


@pytest.fixture
def trust(pki: Pki) -> TrustStore:
    return TrustStore(pki.certificates)
