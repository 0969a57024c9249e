"""The contract of storage plugins as tests: subclass it, say how to make a plugin, and run pytest.

class TestMyStorage(StorageContract):
    @pytest.fixture
    def plugin(self) -> StoragePlugin:
        return MyPlugin("proto://host/fresh-and-empty-root", {})

    @pytest.fixture
    def read_only_plugin(self) -> StoragePlugin:
        return MyPlugin("proto://host/fresh-and-empty-root", {}, read_only=True)
"""

import hashlib
import threading
import zlib
from pathlib import Path

import pytest

from spinor.errors import SpinorError
from spinor.storage.plugin import (
    Checksums,
    ChecksumWrong,
    FileMissing,
    PathUnsafe,
    StoragePlugin,
    StorageReadOnly,
    Stored,
    Transfer,
)

NAMES = ["plain", "with space", "new\nline", "quo'te\"", "🔭", "é" * 127, "a;b", "100%", "#?&=+", "-rf", "back\\slash"]
UNSAFE = ["", "/etc/passwd", "../x", "a/../x", "a/./x", "a//x", "a/", "nul\0"]


def sums_of(data: bytes) -> Checksums:
    return Checksums(size_bytes=len(data), adler32=f"{zlib.adler32(data):08x}", sha256=hashlib.sha256(data).hexdigest())


def good(answers: list[Checksums | SpinorError]) -> list[Checksums]:
    for answer in answers:
        if isinstance(answer, SpinorError):
            raise answer
    return [answer for answer in answers if isinstance(answer, Checksums)]


class StorageContract:
    """What every storage plugin must do. Override `plugin` and `read_only_plugin`, which start empty."""

    @pytest.fixture
    def plugin(self) -> StoragePlugin:
        raise NotImplementedError("give an empty storage")

    @pytest.fixture
    def read_only_plugin(self) -> StoragePlugin:
        raise NotImplementedError("give an empty storage that is read-only")

    @pytest.fixture
    def content(self, tmp_path: Path) -> Path:
        local = tmp_path / "content"
        local.write_bytes(b"content")
        return local

    @pytest.mark.parametrize("size", [0, 1, 3_000_001])
    def test_bytes_come_back_as_they_went(self, plugin: StoragePlugin, tmp_path: Path, size: int) -> None:
        data = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
        (tmp_path / "out").write_bytes(data)
        put = good(plugin.put([Transfer(path="d/e/f", local=tmp_path / "out")]))
        got = good(plugin.get([Transfer(path="d/e/f", local=tmp_path / "in", size_bytes=size)]))
        assert put == got == [sums_of(data)]
        assert (tmp_path / "in").read_bytes() == data

    @pytest.mark.parametrize("name", NAMES, ids=ascii)
    def test_any_name_works_also_through_its_url(
        self, plugin: StoragePlugin, content: Path, tmp_path: Path, name: str
    ) -> None:
        path = f"{name[:20]}/{name}"
        good(plugin.put([Transfer(path=path, local=content)]))
        other, there = type(plugin).at(plugin.url(path))
        good(other.get([Transfer(path=there, local=tmp_path / "back")]))
        assert (tmp_path / "back").read_bytes() == b"content"
        assert [stored.path for stored in plugin.walk("")] == [path]

    def test_urls_are_ascii_of_the_plugins_scheme(self, plugin: StoragePlugin) -> None:
        url = plugin.url("d/ä\n")
        assert url.startswith(f"{plugin.scheme}://")
        assert url.isascii()
        assert url.isprintable()

    @pytest.mark.parametrize("path", UNSAFE, ids=ascii)
    def test_a_path_cannot_leave_the_root(
        self, plugin: StoragePlugin, content: Path, tmp_path: Path, path: str
    ) -> None:
        answers = [
            *plugin.put([Transfer(path=path, local=content)]),
            *plugin.get([Transfer(path=path, local=tmp_path / "x")]),
            *plugin.stat([path]),
            *plugin.remove([path]),
        ]
        assert [type(answer) for answer in answers] == [PathUnsafe] * 4
        assert not (tmp_path / "x").exists()
        with pytest.raises(PathUnsafe):
            plugin.url(path)

    def test_one_lost_file_hides_no_other(self, plugin: StoragePlugin, content: Path, tmp_path: Path) -> None:
        good(plugin.put([Transfer(path="a", local=content), Transfer(path="c", local=content)]))
        first, lost, last = plugin.stat(["a", "b", "c"])
        assert isinstance(first, Stored)
        assert isinstance(last, Stored)
        assert first.size_bytes == 7
        assert isinstance(lost, FileMissing)
        transfers = [Transfer(path=name, local=tmp_path / f"got-{name}") for name in "abc"]
        assert [type(answer) for answer in plugin.get(transfers)] == [Checksums, FileMissing, Checksums]
        transfers = [Transfer(path="x", local=tmp_path / "absent"), Transfer(path="y", local=content)]
        assert [type(answer) for answer in plugin.put(transfers)] == [FileMissing, Checksums]

    def test_a_directory_is_not_a_file(self, plugin: StoragePlugin, content: Path, tmp_path: Path) -> None:
        good(plugin.put([Transfer(path="d/x", local=content)]))
        assert isinstance(plugin.stat(["d"])[0], FileMissing)
        assert isinstance(plugin.get([Transfer(path="d", local=tmp_path / "x")])[0], SpinorError)
        assert not (tmp_path / "x").exists()

    @pytest.mark.parametrize("wrong", [{"size_bytes": 8}, {"adler32": "00000000"}, {"sha256": "0" * 64}], ids=str)
    def test_wrong_bytes_are_not_kept(
        self, plugin: StoragePlugin, content: Path, tmp_path: Path, wrong: dict[str, object]
    ) -> None:
        good(plugin.put([Transfer(path="x", local=content)]))
        (got,) = plugin.get([Transfer(path="x", local=tmp_path / "in", **wrong)])  # type: ignore[arg-type]
        assert isinstance(got, ChecksumWrong)
        assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"content"}
        (put,) = plugin.put([Transfer(path="y", local=content, **wrong)])  # type: ignore[arg-type]
        assert isinstance(put, ChecksumWrong)
        assert [stored.path for stored in plugin.walk("")] == ["x"]

    def test_putting_again_replaces(self, plugin: StoragePlugin, content: Path, tmp_path: Path) -> None:
        good(plugin.put([Transfer(path="x", local=content)]))
        content.write_bytes(b"other")
        good(plugin.put([Transfer(path="x", local=content)]))
        good(plugin.get([Transfer(path="x", local=tmp_path / "in")]))
        assert (tmp_path / "in").read_bytes() == b"other"

    def test_walking_finds_all_below(self, plugin: StoragePlugin, content: Path) -> None:
        paths = {f"d{n % 3}/e{n % 5}/f{n}" for n in range(30)} | {"top"}
        good(plugin.put([Transfer(path=path, local=content) for path in paths]))
        assert {stored.path for stored in plugin.walk("")} == paths
        assert {stored.path for stored in plugin.walk("d1")} == {path for path in paths if path.startswith("d1/")}
        with pytest.raises(FileMissing):
            list(plugin.walk("absent"))

    def test_removing_is_idempotent_and_leaves_no_empty_directories(self, plugin: StoragePlugin, content: Path) -> None:
        good(plugin.put([Transfer(path=path, local=content) for path in ("a/b/c", "a/d")]))
        assert plugin.remove(["a/b/c", "a/b/c", "never/was", "nothing"]) == [None] * 4
        assert [stored.path for stored in plugin.walk("")] == ["a/d"]
        with pytest.raises(FileMissing):
            list(plugin.walk("a/b"))
        assert plugin.remove(["a/d"]) == [None]
        assert list(plugin.walk("")) == []

    def test_read_only_is_respected(self, read_only_plugin: StoragePlugin, content: Path) -> None:
        assert isinstance(read_only_plugin.put([Transfer(path="x", local=content)])[0], StorageReadOnly)
        assert isinstance(read_only_plugin.remove(["x"])[0], StorageReadOnly)

    def test_progress_counts_every_byte(self, plugin: StoragePlugin, tmp_path: Path) -> None:
        (tmp_path / "large").write_bytes(b"x" * 2_500_000)
        seen: list[int] = []
        good(plugin.put([Transfer(path="x", local=tmp_path / "large")], seen.append))
        assert sum(seen) == 2_500_000

    def test_writers_and_removers_meet_in_the_same_directories(self, plugin: StoragePlugin, content: Path) -> None:
        problems: list[object] = []

        def churn(number: int) -> None:
            for turn in range(40):
                path = f"shared/{turn % 3}/file-{number}"
                problems.extend(
                    a for a in plugin.put([Transfer(path=path, local=content)]) if isinstance(a, SpinorError)
                )
                problems.extend(a for a in plugin.remove([path]) if a is not None)

        threads = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [str(problem) for problem in problems] == []
        assert list(plugin.walk("")) == []
