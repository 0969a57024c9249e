"""The servers as fixtures: one of each for a session of tests, started when the first test asks for it.

A test that asks for one says so by its mark, `@pytest.mark.peer("oidc-provider")`. What a test adds to a server stays
there for the next one, so it takes names of its own.
"""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from bench.peers import ENVIRONMENTS
from tests.servers.arc import ARCServer, arc_server
from tests.servers.authority import Authority, authority
from tests.servers.ceph import S3Server, ceph_server
from tests.servers.chromium import Chromium, chromium, connected, new_context
from tests.servers.htcondor import HTCondorServer, htcondor_server
from tests.servers.jupyterhub import JupyterHub, jupyterhub
from tests.servers.keycloak import KeycloakServer, keycloak_server
from tests.servers.kubernetes import KubernetesServer, kubernetes_server
from tests.servers.oidc import OIDCServer, oidc_server
from tests.servers.slurm import SlurmCluster, slurm_cluster
from tests.servers.sshd import SSHServers, ssh_servers
from tests.servers.voms import VOMSServer, voms_server
from tests.servers.xrootd import Admission, XRootDServer, xrootd_server

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page


@pytest.fixture(scope="session", name="authority")
def fixture_authority() -> Iterator[Authority]:
    """Who certifies all the servers of the session."""
    with authority() as it:
        yield it


@pytest.fixture(scope="session", name="chromium")
def fixture_chromium(authority: Authority) -> Iterator[Chromium]:
    with chromium(authority) as it:
        yield it


@pytest.fixture
async def browser(chromium: Chromium) -> AsyncIterator["Browser"]:
    """For tests with several people: each gets a `new_context`."""
    async with connected(chromium) as it:
        yield it


@pytest.fixture
async def page(browser: "Browser") -> AsyncIterator["Page"]:
    """The browser of one person, with no cookies yet."""
    yield await (await new_context(browser)).new_page()


@pytest.fixture(scope="session", name="oidc_server")
def fixture_oidc_server(authority: Authority) -> Iterator[OIDCServer]:
    """With opaque access tokens, and claims at userinfo."""
    with oidc_server(authority) as it:
        yield it


@pytest.fixture(scope="session")
def second_oidc_server(authority: Authority) -> Iterator[OIDCServer]:
    """Another one, with JWT access tokens for https://spinor.example and claims in the ID token."""
    with oidc_server(authority, audience="https://spinor.example", claims_in_id_token=True) as it:
        yield it


@pytest.fixture(scope="session", name="keycloak")
def fixture_keycloak(authority: Authority) -> Iterator[KeycloakServer]:
    """Without users, groups and clients. It takes ten seconds to start."""
    with keycloak_server(authority) as it:
        yield it


@pytest.fixture(scope="session", name="jupyterhub")
def fixture_jupyterhub(authority: Authority, oidc_server: OIDCServer) -> Iterator[JupyterHub]:
    """Whom the provider `oidc_server` knows can sign in. Who wants another environment starts a `jupyterhub`."""
    with jupyterhub(authority, oidc_server) as it:
        yield it


@pytest.fixture(scope="session", name="voms_server")
def fixture_voms_server(authority: Authority) -> Iterator[VOMSServer]:
    """Of the VO astro, without members."""
    with voms_server(authority) as it:
        yield it


@pytest.fixture(scope="session", name="xrootd_server")
def fixture_xrootd_server(authority: Authority, voms_server: VOMSServer) -> Iterator[XRootDServer]:
    """Whoever is in astro may do anything in /store/astro. Who wants tokens admitted starts an `xrootd_server` with the
    issuer.
    """
    with xrootd_server(authority, Admission(rules=["g /astro /store/astro a"]), vomsdir=voms_server.vomsdir) as it:
        yield it


@pytest.fixture(scope="session", name="ssh_servers")
def fixture_ssh_servers() -> Iterator[SSHServers]:
    """Who wants a server starts one, `with ssh_servers.serving("name")`."""
    with ssh_servers() as it:
        yield it


@pytest.fixture(scope="session", name="slurm_cluster")
def fixture_slurm_cluster() -> Iterator[SlurmCluster]:
    """Two nodes of eight processors, and a login node for SSH."""
    with slurm_cluster() as it:
        yield it


@pytest.fixture(scope="session", name="htcondor_server")
def fixture_htcondor_server(authority: Authority) -> Iterator[HTCondorServer]:
    """A pool of eight cores, with a token of the account that its jobs run under."""
    with htcondor_server(authority) as it:
        yield it


@pytest.fixture(scope="session", name="arc_server")
def fixture_arc_server(authority: Authority) -> Iterator[ARCServer]:
    """For the certificate that it comes with."""
    with arc_server(authority) as it:
        yield it


@pytest.fixture(scope="session", name="kubernetes_server")
def fixture_kubernetes_server(authority: Authority) -> Iterator[KubernetesServer]:
    """A control plane whose node is a stand-in."""
    with kubernetes_server(authority) as it:
        yield it


@pytest.fixture(scope="session", name="ceph_server")
def fixture_ceph_server() -> Iterator[S3Server]:
    """Without buckets. It takes fifteen seconds to start."""
    with ceph_server() as it:
        yield it


@pytest.fixture(scope="session", name="slurm24_cluster")
def fixture_slurm24_cluster() -> Iterator[SlurmCluster]:
    """The same with the programs of Slurm 24.11, and without a login node."""
    with slurm_cluster(root=ENVIRONMENTS / "slurm24" / "root") as it:
        yield it
