"""The `file` plugin: the contract, and what only a file system can do to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spinor.storage.plugin import FileMissing, PathUnsafe, StorageFault, StorageFull, StoragePlugin, Transfer
from spinor.storage.plugins.file import FileStorage
from spinor.storage.registry import open_element, open_url
from spinor.testing.storage_contract import StorageContract


class TestFileStorage(StorageContract):
    @pytest.fixture
    def plugin(self, tmp_path: Path) -> StoragePlugin:
        (tmp_path / "root").mkdir()
        return FileStorage(str(tmp_path / "root"), {})

    @pytest.fixture
    def read_only_plugin(self, tmp_path: Path) -> StoragePlugin:
        return FileStorage(str(tmp_path), {}, read_only=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "d").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "root"


def test_symbolic_links_lead_nowhere(root: Path, tmp_path: Path) -> None:
    (root / "out").symlink_to(tmp_path)
    (root / "link").symlink_to(tmp_path / "secret")
    plugin = FileStorage(str(root), {})
    transfer = [Transfer(path=path, local=tmp_path / "got") for path in ("out/secret", "link")]
    assert [type(answer) for answer in plugin.get(transfer)] == [PathUnsafe, PathUnsafe]
    put = [Transfer(path="out/planted", local=tmp_path / "secret")]
    assert isinstance(plugin.put(put)[0], PathUnsafe)
    assert isinstance(plugin.remove(["out/secret"])[0], PathUnsafe)
    assert [type(answer) for answer in plugin.stat(["link", "out/secret"])] == [FileMissing, PathUnsafe]
    assert list(plugin.walk("")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "secret"]


def test_a_put_over_a_link_replaces_the_link_and_not_its_target(root: Path, tmp_path: Path) -> None:
    (root / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "new").write_text("new")
    FileStorage(str(root), {}).put([Transfer(path="link", local=tmp_path / "new")])
    assert (tmp_path / "secret").read_text() == "secret"
    assert (root / "link").read_text() == "new"


def test_a_pipe_does_not_hang_and_is_no_file(root: Path, tmp_path: Path) -> None:
    os.mkfifo(root / "pipe")
    answer = FileStorage(str(root), {}).get([Transfer(path="pipe", local=tmp_path / "got")])[0]
    assert isinstance(answer, FileMissing)


FULL = """
import resource, signal, sys
from pathlib import Path
from spinor.storage.plugin import Transfer
from spinor.storage.plugins.file import FileStorage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
plugin = FileStorage(sys.argv[1], {})
locals = {"d/large": Path(sys.argv[2]), "d/small": Path(__file__)}
answers = plugin.put([Transfer(path=path, local=local) for path, local in locals.items()])
print([type(answer).__name__ for answer in answers])
print(answers[0].code, answers[0].retry, answers[0].message)
"""


def test_a_full_storage_leaves_nothing_half_written(root: Path, tmp_path: Path) -> None:
    """The kernel refuses to let any file of the process grow: the same failing write as on a full disk."""
    (tmp_path / "large").write_bytes(os.urandom(3_000_000))
    script = tmp_path / "full.py"
    script.write_text(FULL)
    words = [sys.executable, str(script), str(root), str(tmp_path / "large")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "['StorageFull', 'Checksums']"
    assert second.startswith("storage-full True No room for")
    assert [path.name for path in (root / "d").iterdir()] == ["small"]


def test_a_full_local_disk_is_told_too(tmp_path: Path, root: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space") as caught:
        full.write(b"x")
    from spinor.storage.plugins.file import _fault

    assert isinstance(_fault(caught.value, "x"), StorageFull)


def test_what_a_killed_put_left_is_not_listed(root: Path) -> None:
    (root / "d" / ".0123456789abcdef.part").write_text("half")
    (root / "d" / ".part").write_text("a name of somebody")
    assert [stored.path for stored in FileStorage(str(root), {}).walk("")] == ["d/.part"]


def test_undecodable_names_on_disk_do_not_stop_a_walk(root: Path) -> None:
    os.close(os.open(os.fsencode(root) + b"/bad\xff", os.O_CREAT | os.O_WRONLY))
    assert [os.fsencode(stored.path) for stored in FileStorage(str(root), {}).walk("")] == [b"bad\xff"]


def test_a_missing_plugin_is_explained() -> None:
    with pytest.raises(StorageFault, match=r"no storage plugin 'xrootd' here \(installed: file") as caught:
        open_element("xrootd", "root://x", {})
    assert "spinor.storage" in caught.value.message
    with pytest.raises(StorageFault, match="root://"):
        open_url("root://host//path")
    with pytest.raises(StorageFault, match="absolute"):
        open_element("file", "relative", {})


@pytest.mark.parametrize("url", ["file:///no/mark", "file://other-host/a//b", "file:"])
def test_other_peoples_urls_are_refused(url: str) -> None:
    with pytest.raises(StorageFault):
        open_url(url)
