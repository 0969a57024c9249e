"""Whether the server and the database answer."""

import http.client
import json
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import msgspec

from spinor.x509.tls import client_context


class ServerHealth(msgspec.Struct, frozen=True, kw_only=True):
    healthy: bool
    sentence: str
    version: str | None = None
    date: datetime | None = None  # The server's clock, from the Date header.


class DatabaseHealth(msgspec.Struct, frozen=True, kw_only=True):
    healthy: bool
    sentence: str
    version: str | None = None
    version_number: int = 0  # As PostgreSQL counts: 150004 is 15.4.
    now: datetime | None = None


def server_health(port: int, ca: Path, timeout_s: float = 2.0) -> ServerHealth:
    """GET /api/health over the loopback address, trusting our certificate authority alone."""
    try:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout_s, context=client_context(ca))
        try:
            connection.request("GET", "/api/health")
            answer = connection.getresponse()
            body = answer.read(65536)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        return ServerHealth(healthy=False, sentence=f"no answer on port {port}: {_reason(error)}")
    header = answer.getheader("Date")
    return ServerHealth(
        healthy=answer.status == 200,
        sentence=f"answers {answer.status}",
        version=_version(body),
        date=_date(header) if header else None,
    )


def database_health(url: str, timeout_s: int = 3) -> DatabaseHealth:
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=timeout_s) as connection:
            row = connection.execute("SELECT current_setting('server_version'), clock_timestamp()").fetchone()
            assert row is not None
            return DatabaseHealth(
                healthy=True,
                sentence="takes connections",
                version=str(row[0]).split()[0],
                version_number=connection.info.server_version,
                now=row[1].astimezone(UTC),
            )
    except psycopg.Error as error:
        return DatabaseHealth(healthy=False, sentence=f"refuses: {(str(error).splitlines() or ['no reason given'])[0]}")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused ({error.verify_message})"
    return str(getattr(error, "strerror", None) or error)


def _version(body: bytes) -> str | None:
    try:
        content = json.loads(body)
    except ValueError:
        return None
    version = content.get("version") if isinstance(content, dict) else None
    return version if isinstance(version, str) else None


def _date(header: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(header)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
