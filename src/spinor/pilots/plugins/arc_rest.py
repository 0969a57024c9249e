"""A-REX's REST interface (1.0 and 1.1) as far as pilots need it: jobs, their files, and delegated credentials."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
from asn1crypto import csr, pem
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from spinor.pilots.plugin import ElementRefused, ElementUnavailable
from spinor.pilots.plugins.connections import ClosedWhenCutOff
from spinor.x509 import proxy as proxies
from spinor.x509.chain import key_weakness
from spinor.x509.tls import client_context

T = TypeVar("T")

_AT_ONCE = 8
_PART_BYTES = 256 * 1024
# Of many TLS handshakes at once A-REX 6 fails about one in a hundred: its OpenSSL says "unable to get local issuer
# certificate" of a chain that it takes a moment later. With TLS 1.3 a server judges our certificate when we take the
# handshake for done, so we see the end of it anywhere in the request: as TLS's own alert, or as a connection that is
# closed while we write or read. Each pause is followed by one more try; all together are short beside a round.
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, ssl.SSLError)
_PAUSES_S = (0.1, 0.3, 0.9)
_DELEGATED = timedelta(hours=24)
_DIGESTS: Mapping[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()
}  # fmt: skip


class Access:
    """Who asks: a token, which is read again for each use, or a proxy."""

    def __init__(self, url: str, token: Path | None, proxy: Path | None, authority: Path | None) -> None:
        self.url = url.rstrip("/")
        self.token, self.proxy, self.authority = token, proxy, authority

    def client(self) -> httpx.AsyncClient:
        headers = {"Accept": "application/json"}
        try:
            context = client_context(self.authority)
            if self.token is not None:
                headers["Authorization"] = f"Bearer {self.token.read_text(encoding='ascii').strip()}"
            if self.proxy is not None:
                proxies.read_credential(self.proxy)  # It refuses a file that others can read.
                context.load_cert_chain(self.proxy)
        except (OSError, ssl.SSLError, UnicodeDecodeError) as error:
            raise ElementRefused(f"The credentials for {self.url} cannot be used: {error}.") from None
        return httpx.AsyncClient(verify=context, headers=headers, timeout=30, trust_env=False)


class Rest:
    """Calls to one A-REX. ElementUnavailable when it does not answer, ElementRefused when it says no.

    What breaks off is asked again, so everything here may be carried out twice.
    """

    def __init__(self, access: Access, client: httpx.AsyncClient) -> None:
        self.access = access
        self.client = client
        self.base = f"{access.url}/rest/1.0"
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def job_ids(self) -> list[str]:
        return [job["id"] for job in _jobs(await self._json("GET", "/jobs"))]

    async def ask(self, action: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """An action on many jobs (info, status, kill, clean): the answer for each, with its own status-code."""
        if not ids:
            return {}
        body = {"job": [{"id": each} for each in ids]}
        found = {job["id"]: job for job in _jobs(await self._json("POST", f"/jobs?action={action}", json=body))}
        return {each: found[each] for each in ids if each in found}

    async def create(self, description: str) -> tuple[str, str]:
        """A new job that waits for its files: its id, and otherwise why it is refused.

        Where the answer was lost, there is one more job of that description.
        """
        headers = {"Content-Type": "application/xml"}
        answer = await self._send("POST", "/jobs?action=new", content=description.encode(), headers=headers)
        (job,) = _jobs(_decoded(answer))
        if str(job["status-code"]).startswith("2"):
            return job["id"], ""
        return "", f"{job['status-code']} {job['reason']}"

    async def upload(self, job_id: str, name: str, content: bytes | Path) -> None:
        """A file of the job, whose content may stand in a file of any size."""
        size_bytes = (await asyncio.to_thread(content.stat)).st_size if isinstance(content, Path) else len(content)
        headers = {"Content-Length": str(size_bytes)}  # Without it, a file would be sent in chunks.
        await self._send("PUT", f"/jobs/{job_id}/session/{name}", headers=headers, content=content)

    async def tail(self, job_id: str, path: str, last_bytes: int) -> bytes:
        """The end of a file of the job, below its address; empty when there is none."""
        answer = await self._send(
            "GET", f"/jobs/{job_id}/{path}", ok=(404, 416), headers={"Range": f"bytes=-{last_bytes}"}
        )
        return answer.content[-last_bytes:] if answer.status_code in (200, 206) else b""

    async def download(self, job_id: str, path: str, target: Path) -> bool:
        """A whole file of the job; False when there is none."""

        async def fetch() -> bool:
            address, extensions = f"{self.base}/jobs/{job_id}/{path}", {"trace": ClosedWhenCutOff()}
            async with self.client.stream("GET", address, extensions=extensions) as answer:
                if answer.status_code == 404:
                    return False
                if answer.status_code != 200:
                    # That the element cannot tell just now does not say that the job has left nothing.
                    await answer.aread()
                    raise self._trouble(answer, f"/jobs/{job_id}/{path}")
                with await asyncio.to_thread(target.open, "wb") as file:
                    async for part in answer.aiter_bytes():
                        file.write(part)
            return True

        return await self._tried(fetch)

    async def delegate(self) -> str:
        """A delegation of our proxy: the service makes the key, and we sign for it."""
        assert self.access.proxy is not None
        answer = await self._send("POST", "/delegations?action=new", headers={"Accept": "*/*"})
        own = proxies.read_credential(self.access.proxy)
        signed = proxies.issue_proxy(
            own.chain, own.key, _requested_key(answer.content), lifetime=_DELEGATED, now=datetime.now(UTC)
        )
        chain = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in (signed, *own.chain))
        number = answer.headers["location"].rstrip("/").rpartition("/")[2]
        await self._send(
            "PUT", f"/delegations/{number}", content=chain, headers={"Content-Type": "application/x-pem-file"}
        )
        return number

    async def _json(self, method: str, path: str, **content: Any) -> Any:
        return _decoded(await self._send(method, path, **content))

    async def _send(self, method: str, path: str, ok: Iterable[int] = (), **content: Any) -> httpx.Response:
        answer = await self._tried(
            lambda: self.client.request(
                method, self.base + path, extensions={"trace": ClosedWhenCutOff()}, **_from_the_start(content)
            )
        )
        if answer.status_code >= 300 and answer.status_code not in ok:
            raise self._trouble(answer, path)
        return answer

    def _trouble(self, answer: httpx.Response, path: str) -> ElementUnavailable | ElementRefused:
        if answer.status_code >= 500:
            return ElementUnavailable(f"{self.base}{path} answers {answer.status_code}: {answer.text[:200]}")
        words = answer.reason_phrase if not answer.text else answer.text[:200]
        return ElementRefused(f"{self.base}{path} refuses: {answer.status_code} {words}")

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> T:
        """What the call gives, when need be at a later try, for which httpx takes another connection."""
        pauses = iter(_PAUSES_S)
        while True:
            try:
                async with self._turns:
                    return await call()
            except (httpx.HTTPError, ssl.SSLError) as error:
                pause_s = next(pauses, None) if isinstance(error, _BROKEN) else None
                if pause_s is None:
                    raise ElementUnavailable(f"{self.base}: {type(error).__name__}: {error}") from error
            await asyncio.sleep(pause_s)


def _from_the_start(content: Mapping[str, Any]) -> dict[str, Any]:
    """For each try anew: what has been read of a file is gone."""
    file = content.get("content")
    return {**content, "content": _parts(file)} if isinstance(file, Path) else {**content}


async def _parts(file: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(file.open, "rb") as opened:
        while part := await asyncio.to_thread(opened.read, _PART_BYTES):
            yield part


@asynccontextmanager
async def connected(access: Access) -> AsyncIterator[Rest]:
    async with access.client() as client:
        yield Rest(access, client)


def _requested_key(request: bytes) -> rsa.RSAPublicKey:
    """The key of a certificate request, which it must be signed by.

    A-REX numbers its requests with a version that there is not, and so libraries that read certificates refuse them.
    """
    try:
        _, _, der = pem.unarmor(request)
        asked = csr.CertificationRequest.load(der)
        info = asked["certification_request_info"]
        key = serialization.load_der_public_key(info["subject_pk_info"].dump())
        digest = _DIGESTS[asked["signature_algorithm"].hash_algo]
        assert isinstance(key, rsa.RSAPublicKey)
        key.verify(asked["signature"].native, info.dump(), padding.PKCS1v15(), digest)
    except (ValueError, TypeError, KeyError, AssertionError, InvalidSignature) as error:
        raise ElementRefused(f"A-REX asks for a delegation with no request that can be read: {error}.") from None
    if weakness := key_weakness(key):
        raise ElementRefused(f"A-REX asks for a delegation to a key that has {weakness}.")
    return key


def _decoded(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.content else {}
    except ValueError:
        raise ElementUnavailable(f"{answer.url} answers with something else than JSON: {answer.text[:200]}") from None


def _jobs(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where there is only one, A-REX writes no list."""
    found = answer.get("job", [])
    return [found] if isinstance(found, dict) else list(found)
