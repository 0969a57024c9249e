"""A service, elements of the grid behind it, and real jobs on each."""

import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from spinor.x509.proxy import make_proxy, read_credential
from tests.servers.arc import ARCServer
from tests.servers.authority import Authority
from tests.servers.htcondor import HTCondorServer
from tests.servers.kubernetes import KubernetesServer

from .conftest import Service

pytestmark = pytest.mark.acceptance


def keep(service: Service, name: str, text: str) -> str:
    """Put a credential where elements' options name them."""
    place = service.work / "data" / "secrets" / "computing"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    return name


@pytest.fixture
def element(service: Service) -> Iterator[Any]:
    """Adds a site with one computing element, until the end of the test."""
    before = yaml.safe_dump(yaml.safe_load(service.ok("config", "show").out))
    site = f"GRID-{secrets.token_hex(3)}"

    def add(name: str, **options: Any) -> str:
        operations = yaml.safe_load(before)
        operations["sites"][site] = {
            "computing_elements": {
                f"ce-{site.lower()}": {
                    "plugin": name, "cores": 1, "memory_bytes": "1GB", "wall_s": "2h", "max_pilots": 2,
                    "vos": ["demo"], "options": options,
                }
            }
        }  # fmt: skip
        service.ok("config", "apply", "-", stdin=yaml.safe_dump(operations))
        return site

    yield add
    service.ok("config", "apply", "-", stdin=before)
    # Its last pilot would take a job of another test, and one on a node without network shows nothing before its end.
    alive = service.ok("pilot", "list", "-q", "--where", f"computing_element=ce-{site.lower()} and status=running")
    service.run("pilot", "cancel", "-q", *alive.lines)


def runs(service: Service, site: str) -> None:
    """A job there runs, with a file that comes back and its log."""
    words = ["/bin/sh", "-c", "echo at $(hostname); echo 42 >answer.txt"]
    job = service.ok("job", "submit", "-q", "--site", site, "--output-sandbox", "answer.txt", "--", *words).out.strip()
    while (waited := service.run("job", "wait", job, "--timeout", "60s")).code == 75:
        pass  # The test's own time limit ends this.
    assert waited.code == 0, service.run("job", "explain", job).out + service.run("pilot", "list").out
    assert service.ok("job", "log", job).out.startswith("at ")
    shown = service.ok("job", "show", job, "--json").models[0]
    assert shown["site"] == site


@pytest.mark.peer("htcondor")
def test_htcondor(service: Service, htcondor_server: HTCondorServer, element: Any) -> None:
    tokens = service.work / "data" / "secrets" / "computing" / "pool"
    tokens.mkdir(parents=True, exist_ok=True, mode=0o700)
    keep(service, "pool/token", (htcondor_server.tokens / "pool").read_text())
    site = element(
        "htcondor", collector=htcondor_server.collector, schedd=htcondor_server.schedd, token_directory="pool",
        trust_domain="test.spinor", python="/usr/bin/python3",
    )  # fmt: skip
    runs(service, site)


@pytest.mark.peer("arc")
def test_arc(service: Service, arc_server: ARCServer, authority: Authority, element: Any) -> None:
    own = read_credential(arc_server.user.certificate, arc_server.user.key)
    proxy = make_proxy(own, lifetime=timedelta(hours=12), now=datetime.now(UTC))
    keep(service, "proxy.pem", proxy.pem().decode())
    ca = keep(service, "arc-ca.pem", authority.ca_file.read_text())
    runs(service, element("arc", url=arc_server.url, proxy_file="proxy.pem", ca=ca, python="/usr/bin/python3"))


@pytest.mark.peer("kubernetes")
def test_kubernetes(service: Service, kubernetes_server: KubernetesServer, element: Any) -> None:
    keep(service, "cluster-token", kubernetes_server.token)
    ca = keep(service, "cluster-ca.pem", kubernetes_server.ca_file.read_text())
    site = element(
        "kubernetes", server=kubernetes_server.url, token_file="cluster-token", ca_file=ca,
        namespace=kubernetes_server.namespace, image="python:3.12", python="/usr/bin/python3",
    )  # fmt: skip
    runs(service, site)


@pytest.mark.peer("htcondor")
def test_jobs_are_pushed_through_htcondor(service: Service, htcondor_server: HTCondorServer, element: Any) -> None:
    """The pilot on the node speaks to nobody; tests/pilots/test_push.py takes the network from it, too."""
    tokens = service.work / "data" / "secrets" / "computing" / "pool"
    tokens.mkdir(parents=True, exist_ok=True, mode=0o700)
    keep(service, "pool/token", (htcondor_server.tokens / "pool").read_text())
    behind = {
        "collector": htcondor_server.collector, "schedd": htcondor_server.schedd, "token_directory": "pool",
        "trust_domain": "test.spinor", "python": "/usr/bin/python3",
    }  # fmt: skip
    runs(service, element("push", plugin="htcondor", options=behind, poll_s=1))
