"""The part of the Kubernetes API that pilots need, and who asks: a token, or the user of a kubeconfig."""

import base64
import binascii
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import httpx
import yaml

from spinor.pilots.plugin import ElementRefused, ElementUnavailable
from spinor.pilots.plugins.connections import ClosedWhenCutOff
from spinor.x509.tls import client_context

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PAGE = 500


class Access(NamedTuple):
    """A cluster and what opens it. `token` is a file that is read again for each round."""

    server: str
    ca_pem: str = ""
    token: Path | None = None
    token_text: str = ""
    certificate: tuple[bytes, bytes] | None = None  # With its key, in PEM.

    @classmethod
    def in_cluster(cls) -> "Access":
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise ElementRefused("This worker runs in no pod of a cluster: there is no KUBERNETES_SERVICE_HOST.")
        ca_pem = (_SERVICE_ACCOUNT / "ca.crt").read_text(encoding="ascii")
        return cls(f"https://{f'[{host}]' if ':' in host else host}:{port}", ca_pem, _SERVICE_ACCOUNT / "token")

    @classmethod
    def of_kubeconfig(cls, file: Path) -> "Access":
        """The cluster and the user of the current context. Only what stands in the file itself is used."""
        try:
            read = yaml.safe_load(file.read_text(encoding="utf-8"))
            context = _named(read["contexts"], read["current-context"])["context"]
            cluster = _named(read["clusters"], context["cluster"])["cluster"]
            user = _named(read["users"], context["user"])["user"]
            ca_pem = _decoded(cluster.get("certificate-authority-data", "")).decode()
            certificate = (
                (_decoded(user["client-certificate-data"]), _decoded(user["client-key-data"]))
                if "client-certificate-data" in user
                else None
            )
            server = cluster["server"]
        except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            raise ElementRefused(f"The kubeconfig {file} cannot be used: {type(error).__name__}: {error}.") from None
        if certificate is None and "token" not in user:
            raise ElementRefused(
                f"The user of the kubeconfig {file} has neither a token nor a certificate in the file itself; "
                "commands that fetch one are not run. Give the token of a service account with token_file."
            )
        return cls(server, ca_pem, None, user.get("token", ""), certificate)

    def client(self) -> httpx.AsyncClient:
        """Raises ElementRefused when the credentials cannot be used."""
        try:
            if self.ca_pem:
                context = ssl.create_default_context(cadata=self.ca_pem)
                context.hostname_checks_common_name = False
            else:
                context = client_context()
            if self.certificate is not None:
                _load(context, *self.certificate)
            token = self.token_text or (self.token.read_text(encoding="ascii").strip() if self.token else "")
        except (OSError, ValueError, ssl.SSLError) as error:
            raise ElementRefused(f"The credentials for {self.server} cannot be used: {error}.") from None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(base_url=self.server, verify=context, headers=headers, timeout=30, trust_env=False)


class Namespace:
    """Calls to one namespace. ElementUnavailable when the API does not answer, ElementRefused when it says no."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self.client = client
        self.core = f"/api/v1/namespaces/{quote(name, safe='')}"
        self.batch = f"/apis/batch/v1/namespaces/{quote(name, safe='')}"

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The new object; None when there is one of that name already."""
        answer = await self._send("POST", path, ok=(409,), json=body)
        return None if answer.status_code == 409 else answer.json()

    async def get(self, path: str) -> dict[str, Any] | None:
        answer = await self._send("GET", path, ok=(404,))
        return None if answer.status_code == 404 else answer.json()

    async def patch(self, path: str, changes: Mapping[str, Any]) -> bool:
        """False when there is none."""
        headers = {"Content-Type": "application/merge-patch+json"}
        return (await self._send("PATCH", path, ok=(404,), json=changes, headers=headers)).status_code != 404

    async def text(self, path: str, **query: str) -> str:
        """What there is to read; nothing where the API has nothing (yet, or any more)."""
        answer = await self._send("GET", f"{path}?{urlencode(query)}", ok=(400, 404))
        return answer.text if answer.status_code == 200 else ""

    async def delete(self, path: str, policy: str = "Background") -> None:
        await self._send("DELETE", path, ok=(404,), params={"propagationPolicy": policy})

    async def every(self, path: str, labels: str) -> list[dict[str, Any]]:
        """All objects that carry these labels."""
        found: list[dict[str, Any]] = []
        query = {"labelSelector": labels, "limit": str(_PAGE)}
        while True:
            page = (await self._send("GET", f"{path}?{urlencode(query)}")).json()
            found += page["items"]
            if not (more := page["metadata"].get("continue")):
                return found
            query["continue"] = more

    async def _send(self, method: str, path: str, ok: tuple[int, ...] = (), **content: Any) -> httpx.Response:
        try:
            answer = await self.client.request(method, path, extensions={"trace": ClosedWhenCutOff()}, **content)
        except httpx.HTTPError as error:
            raise ElementUnavailable(f"{self.client.base_url}: {type(error).__name__}: {error}") from error
        if answer.status_code < 300 or answer.status_code in ok:
            return answer
        try:
            reason = str(answer.json().get("message", ""))
        except (ValueError, AttributeError):
            reason = answer.text[:200]
        told = f"{self.client.base_url} answers {answer.status_code} to {method} {path.partition('?')[0]}: {reason}"
        # 409 and 429 are about the moment, as what begins with 5 is.
        raise (ElementUnavailable if answer.status_code >= 500 or answer.status_code in (409, 429) else ElementRefused)(
            told
        )


@asynccontextmanager
async def connected(access: Access, namespace: str) -> AsyncIterator[Namespace]:
    async with access.client() as client:
        yield Namespace(client, namespace)


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for entry in entries:
        if entry["name"] == name:
            return entry
    raise KeyError(name)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from None


def _load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL reads both from a file only; this one is in memory, so that no end of this process leaves the key."""
    with open(os.memfd_create("spinor"), "wb") as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
