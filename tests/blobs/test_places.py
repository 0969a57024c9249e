"""The same promises from a directory and from a real S3 service, which verifies signatures."""

import urllib.parse
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from spinor.blobs import BlobGone, Blobs, BlobsUnavailable, Directory
from spinor.blobs.s3 import Bucket
from spinor.settings import BadSettings
from tests.servers.ceph import S3Server, new_bucket, write_credentials

LATER = timedelta(minutes=5)


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.peer("ceph"))])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "directory":
        return Blobs(Directory(tmp_path / "blobs"), tmp_path / "blobs" / "incoming")
    server: S3Server = request.getfixturevalue("ceph_server")
    return Blobs(Bucket.of(server.address(new_bucket(server), "some/prefix"), tmp_path), tmp_path / "spool")


async def _body(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def _put(blobs: Blobs, name: str, *parts: bytes) -> None:
    async with blobs.spooled(_body(*parts), 10**9) as spooled:
        await blobs.place.put(name, spooled.path)


async def _read(blobs: Blobs, name: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([part async for part in blobs.place.read(name, start, end)])


async def test_what_was_put_is_read_in_whole_and_in_part(blobs: Blobs) -> None:
    data = bytes(range(256)) * 80_000  # More than two parts of a multipart upload.
    await _put(blobs, "sandboxes/1/2/ab.tar", data[:1000], data[1000:])
    assert await blobs.place.size("sandboxes/1/2/ab.tar") == len(data)
    assert await _read(blobs, "sandboxes/1/2/ab.tar") == data
    assert await _read(blobs, "sandboxes/1/2/ab.tar", 5, 300_000) == data[5:300_000]
    assert await _read(blobs, "sandboxes/1/2/ab.tar", len(data) - 3) == data[-3:]
    assert not list(blobs.spool.iterdir())


async def test_a_name_is_written_over_and_removed(blobs: Blobs) -> None:
    await blobs.place.put_bytes("a/b", b"one")
    await _put(blobs, "a/b", b"two")
    assert await _read(blobs, "a/b") == b"two"
    await blobs.place.remove(["a/b", "a/never-there"])
    assert await blobs.place.size("a/b") is None
    with pytest.raises(BlobGone):
        await _read(blobs, "a/b")


async def test_a_list_knows_the_age_and_no_other_prefix(blobs: Blobs) -> None:
    for name in ("uploads/1/x", "uploads/2/y", "uploads-not/z"):
        await blobs.place.put_bytes(name, b"12")
    now = datetime.now(UTC)
    found = [each async for batch in blobs.place.list("uploads", now + LATER) for each in batch]
    assert sorted((each.name, each.size_bytes) for each in found) == [("uploads/1/x", 2), ("uploads/2/y", 2)]
    assert not [each async for batch in blobs.place.list("uploads", now - LATER) for each in batch]


@pytest.mark.peer("ceph")
async def test_a_signed_address_opens_one_blob_and_nothing_else(ceph_server: S3Server, tmp_path: Path) -> None:
    place = Bucket.of(ceph_server.address(new_bucket(ceph_server)), tmp_path)
    for name in ("mine", "other"):
        await place.put_bytes(name, name.encode())
    url = await place.url("mine", 60)
    assert url is not None
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(url)).content == b"mine"
        assert (await client.get(url.replace("/mine?", "/other?"))).status_code == 403
        assert (await client.put(url, content=b"x")).status_code == 403
        assert (await client.get(urllib.parse.urlsplit(url)._replace(query="").geturl())).status_code == 403
    assert ceph_server.secret not in url


@pytest.mark.peer("ceph")
async def test_a_wrong_key_is_refused_without_being_told(ceph_server: S3Server, tmp_path: Path) -> None:
    wrong = write_credentials(tmp_path / "wrong", ceph_server.key, "not-the-secret")
    place = Bucket.of(ceph_server.address(new_bucket(ceph_server), credentials_file=wrong), tmp_path)
    with pytest.raises(BlobsUnavailable) as caught:
        await place.put_bytes("x", b"x")
    assert "not-the-secret" not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("s3://", "s3://bucket"),
        ("s3://key:secret@bucket", "s3://bucket"),
        ("s3://bucket?endpiont=https://x", "endpiont"),
        ("s3://bucket?endpoint=ftp://x", "https"),
        ("s3://bucket?credentials_file=/none", "aws_access_key_id"),
    ],
)
def test_a_wrong_address_is_refused_with_a_remedy(address: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=word) as caught:
        Bucket.of(address, tmp_path)
    assert "secret@" not in str(caught.value)


def test_credentials_that_others_may_read_are_refused(tmp_path: Path) -> None:
    write_credentials(tmp_path / "s3", "key", "hidden").chmod(0o644)
    with pytest.raises(BadSettings, match="chmod 600") as caught:
        Bucket.of(f"s3://bucket?credentials_file={tmp_path / 's3'}", tmp_path)
    assert "hidden" not in str(caught.value)
