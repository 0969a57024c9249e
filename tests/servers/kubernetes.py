"""A real Kubernetes control plane (API server, controllers, scheduler, etcd) with a node that is a stand-in.

No container engine is needed: what stands in for the kubelet registers a node, and runs what is scheduled there as
processes of this machine, with the secrets and configuration of the pod mounted where it asks for them. It knows of the
kubelet's duties no more than the tests do.
"""

import contextlib
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import yaml

from bench.peers import ENVIRONMENTS
from tests.servers.authority import Authority
from tests.servers.kubernetes_node import StandInNode
from tests.servers.process import environ, found, free_port, listens, run, running, workplace

PROGRAMS = ENVIRONMENTS / "kubernetes" / "bin"
NAMESPACE = "pilots"
_ACCOUNT = "factory"
# What the pilots' factory may do, and no more: the same as in docs/how-to/computing-kubernetes.md.
RULES = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
]


class KubernetesServer(NamedTuple):
    url: str
    namespace: str
    token: str  # Of a service account that may do what RULES say, in this namespace.
    ca_file: Path
    admin: httpx.Client


@contextlib.contextmanager
def kubernetes_server(authority: Authority) -> Iterator[KubernetesServer]:
    """A cluster until the end of the block. Only root can start its node."""
    with workplace("kubernetes") as place, contextlib.ExitStack() as stack:
        admin_token = secrets.token_hex(16)
        url = stack.enter_context(_control_plane(authority, place, admin_token))
        headers = {"Authorization": f"Bearer {admin_token}"}
        admin = stack.enter_context(
            httpx.Client(base_url=url, verify=authority.context(), headers=headers, trust_env=False, timeout=30)
        )
        token = _account(admin)
        node = StandInNode(url, admin_token, authority, place)
        stack.enter_context(node.running())
        yield KubernetesServer(url, NAMESPACE, token, authority.ca_file, admin)


@contextlib.contextmanager
def _control_plane(authority: Authority, place: Path, admin_token: str) -> Iterator[str]:
    etcd, peers, port = free_port(), free_port(), free_port()
    host = authority.host("localhost", "kubernetes.default.svc", socket.gethostname())
    (place / "tokens.csv").touch(mode=0o600)
    (place / "tokens.csv").write_text(f"{admin_token},admin,admin,system:masters\n")
    run(["openssl", "genrsa", "-out", str(place / "accounts.key"), "2048"], environ(place))
    run(
        ["openssl", "rsa", "-in", str(place / "accounts.key"), "-pubout", "-out", str(place / "accounts.pub")],
        environ(place),
    )
    url = f"https://localhost:{port}"
    config = _kubeconfig(place / "kubeconfig", url, authority, admin_token)
    here = f"http://127.0.0.1:{etcd}"
    etcd_argv = [
        found("etcd"), "--data-dir", str(place / "etcd"), "--listen-client-urls", here, "--advertise-client-urls", here,
        "--listen-peer-urls", f"http://127.0.0.1:{peers}", "--unsafe-no-fsync",
        "--initial-advertise-peer-urls", f"http://127.0.0.1:{peers}", "--initial-cluster", f"default=http://127.0.0.1:{peers}",
    ]  # fmt: skip
    api_argv = [
        str(PROGRAMS / "kube-apiserver"), f"--etcd-servers={here}", f"--secure-port={port}", "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1", f"--tls-cert-file={host.certificate}", f"--tls-private-key-file={host.key}",
        f"--token-auth-file={place / 'tokens.csv'}", "--authorization-mode=RBAC",
        f"--service-account-issuer={url}", f"--service-account-key-file={place / 'accounts.pub'}",
        f"--service-account-signing-key-file={place / 'accounts.key'}", "--service-cluster-ip-range=10.255.0.0/24",
        f"--kubelet-certificate-authority={authority.ca_file}", "--endpoint-reconciler-type=none",
        f"--cert-dir={place / 'api'}", "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
        f"--kubelet-client-certificate={host.certificate}", f"--kubelet-client-key={host.key}",
    ]  # fmt: skip
    wanted = (
        "job-controller,garbage-collector-controller,ttl-after-finished-controller,pod-garbage-collector-controller"
    )
    manager_argv = [
        str(PROGRAMS / "kube-controller-manager"), f"--kubeconfig={config}", "--leader-elect=false", "--secure-port=0",
        f"--controllers={wanted}",
    ]  # fmt: skip
    scheduler_argv = [
        str(PROGRAMS / "kube-scheduler"), f"--kubeconfig={config}", "--leader-elect=false", "--secure-port=0"
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(etcd_argv, lambda: listens(etcd), place / "etcd.log"))
        stack.enter_context(running(api_argv, lambda: _is_ready(url, authority, admin_token), place / "api.log"))
        stack.enter_context(running(manager_argv, lambda: True, place / "manager.log"))
        stack.enter_context(running(scheduler_argv, lambda: True, place / "scheduler.log"))
        yield url


def _is_ready(url: str, authority: Authority, token: str) -> bool:
    try:
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.get(f"{url}/readyz", headers=headers, verify=authority.context(), trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


def _kubeconfig(file: Path, url: str, authority: Authority, token: str) -> Path:
    file.touch(mode=0o600)
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": url, "certificate-authority": str(authority.ca_file)}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
    }  # fmt: skip
    file.write_text(yaml.safe_dump(content))
    return file


def _account(admin: httpx.Client) -> str:
    """A token of a service account as the how-to makes it."""
    made = "metadata", {"name": _ACCOUNT}
    core, rbac = f"/api/v1/namespaces/{NAMESPACE}", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": _ACCOUNT}
    subject = {"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": NAMESPACE}
    for path, body in [
        ("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}),
        (f"{core}/serviceaccounts", dict([made])),
        (f"{rbac}/roles", {**dict([made]), "rules": RULES}),
        (f"{rbac}/rolebindings", {**dict([made]), "roleRef": role, "subjects": [subject]}),
    ]:
        _patiently(admin, path, body)
    answer = admin.post(f"{core}/serviceaccounts/{_ACCOUNT}/token", json={"spec": {"expirationSeconds": 3600}})
    answer.raise_for_status()
    return str(answer.json()["status"]["token"])


def _patiently(admin: httpx.Client, path: str, body: object) -> None:
    """Roles of the system may still be on their way in the first seconds."""
    for _ in range(100):
        answer = admin.post(path, json=body)
        if answer.status_code in (201, 409):
            return
        time.sleep(0.1)
    answer.raise_for_status()
