"""Blobs in a bucket of an S3 service, by obstore.

The place is one address: `s3://bucket/prefix?endpoint=https://s3.example.org&region=…&credentials_file=…&ca_file=…`.
"""

import asyncio
import configparser
import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from spinor.blobs.models import BlobGone, BlobsUnavailable, Found
from spinor.settings import BadSettings

_PART_BYTES = 8 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_KNOWN = ("endpoint", "region", "credentials_file", "ca_file")
_TIMEOUT = timedelta(seconds=60)


class Bucket:
    def __init__(self, store: S3Store) -> None:
        self._store = store

    @classmethod
    def of(cls, address: str, data_dir: Path) -> "Bucket":
        """Raises BadSettings, which never shows a key."""
        parts = urllib.parse.urlsplit(address)
        given = dict(urllib.parse.parse_qsl(parts.query))
        unknown = sorted(set(given) - set(_KNOWN))
        if parts.scheme != "s3" or not parts.hostname or unknown or "@" in parts.netloc:
            raise BadSettings(
                "SPINOR_BLOBS must be s3://bucket/prefix, with ?endpoint=, region=, credentials_file= and ca_file= "
                f"as needed{f', and has {unknown[0]!r}' if unknown else ''}.",
                setting="SPINOR_BLOBS",
            )
        endpoint = given.get("endpoint", "")
        if endpoint and not endpoint.startswith(("https://", "http://")):
            raise BadSettings("The endpoint in SPINOR_BLOBS must begin with https://.", setting="SPINOR_BLOBS")
        key, secret = _credentials(Path(given.get("credentials_file") or data_dir / "secrets" / "s3"))
        client: Any = {"timeout": _TIMEOUT, "allow_http": endpoint.startswith("http://")}
        if "ca_file" in given:
            client["root_certificate"] = Path(given["ca_file"]).read_bytes()
        return cls(
            S3Store(
                parts.netloc,
                prefix=parts.path.strip("/") or None,
                region=given.get("region", "us-east-1"),
                access_key_id=key,
                secret_access_key=secret,
                # Names of hosts below the endpoint's would ask for a certificate and a DNS entry for each bucket.
                virtual_hosted_style_request=False,
                client_options=client,
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
                endpoint=endpoint or None,
            )
        )

    async def put(self, name: str, path: Path) -> None:
        with _told():
            await obstore.put_async(self._store, name, path, chunk_size=_PART_BYTES, max_concurrency=4)

    async def put_bytes(self, name: str, data: bytes) -> None:
        with _told():
            await obstore.put_async(self._store, name, data, use_multipart=False)

    async def read(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        with _told():
            span: Any = {"offset": start} if end is None else (start, end)
            result = await obstore.get_async(self._store, name, options={"range": span} if start or end else None)
            async for piece in result.stream(min_chunk_size=_READ_BYTES):
                yield bytes(piece)

    async def size(self, name: str) -> int | None:
        with _told():
            try:
                return int((await obstore.head_async(self._store, name))["size"])
            except FileNotFoundError:
                return None

    async def remove(self, names: Sequence[str]) -> None:
        with _told(), contextlib.suppress(FileNotFoundError):
            await asyncio.gather(*(obstore.delete_async(self._store, [name]) for name in names))

    async def list(self, prefix: str, before: datetime) -> AsyncIterator[list[Found]]:
        with _told():
            async for batch in obstore.list(self._store, prefix=prefix, chunk_size=1000):
                found = [Found(each["path"], each["size"], each["last_modified"]) for each in batch]
                yield [each for each in found if each.modified_at < before]

    def path(self, name: str) -> Path | None:
        return None

    async def url(self, name: str, lifetime_s: int) -> str | None:
        with _told():
            return await obstore.sign_async(self._store, "GET", name, timedelta(seconds=lifetime_s))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """The library's errors as ours. Their words are for the log: they may hold addresses, and never keys."""
    try:
        yield
    except FileNotFoundError:
        raise BlobGone from None
    except BaseError as error:
        raise BlobsUnavailable from error


def _credentials(path: Path) -> tuple[str, str]:
    """From a file as AWS's tools have it: aws_access_key_id and aws_secret_access_key, in the section [default]."""
    remedy = "write aws_access_key_id and aws_secret_access_key into its section [default]"
    try:
        if path.stat().st_mode & 0o077:
            raise BadSettings(f"Others may read {path}, the credentials of S3; run chmod 600 {path}.")
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(path.read_text())
        section = parser["default"]
        return section["aws_access_key_id"], section["aws_secret_access_key"]
    except OSError as error:
        raise BadSettings(f"The credentials of S3, {path}, cannot be read ({error.strerror}); {remedy}.") from None
    except (configparser.Error, KeyError):
        raise BadSettings(f"The credentials of S3, {path}, are not understood; {remedy}.") from None
