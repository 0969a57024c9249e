"""The client's half of a delegation, for tests that want to do it wrongly too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spinor.x509.proxy import Credential, sign_request

if TYPE_CHECKING:
    import httpx

    from tests.identity.delegation.conftest import Desk

DAY = timedelta(days=1)


def pem_of(*chain: x509.Certificate) -> str:
    return b"".join(each.public_bytes(Encoding.PEM) for each in chain).decode()


async def begin(desk: Desk, token: str, **body: Any) -> tuple[str, x509.CertificateSigningRequest]:
    answer = await desk.ask(token, "POST", "/api/proxies/requests", body)
    assert answer.status_code == 201, answer.text
    assert "PRIVATE" not in answer.text
    found = answer.json()
    return found["request_id"], x509.load_pem_x509_csr(found["csr"].encode())


async def upload(
    desk: Desk, token: str, own: Credential, *, lifetime: timedelta = 30 * DAY, said: dict[str, Any] | None = None,
    **options: Any,
) -> httpx.Response:  # fmt: skip
    """`options` are those of `sign_request`, `said` is sent beside the chain."""
    request_id, csr = await begin(desk, token)
    leaf = sign_request(csr, own.chain, own.key, lifetime=lifetime, now=datetime.now(UTC), **options)
    body = {"chain": pem_of(leaf, *own.chain), **(said or {})}
    return await desk.ask(token, "PUT", f"/api/proxies/requests/{request_id}", body)


async def stored(desk: Desk, token: str, own: Credential, **options: Any) -> str:
    answer = await upload(desk, token, own, **options)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["proxy_id"])
