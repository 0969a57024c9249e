"""People who put, register, move, remove and read files, and one who publishes directory trees."""

import hashlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from bench.chaos.ledger import ExpectedFile, Ledger
from bench.chaos.people import PATIENCE_S, GaveUp, Person, Refused
from bench.service import SPINOR, Service
from spinor.catalog.models import Outcome
from spinor.errors import SpinorError
from spinor.storage.models import FileReplicas, Place
from spinor.storage.plugin import Checksums, Transfer
from spinor.storage.registry import open_url

TOP = "/demo/chaos"
SHARED = [f"{TOP}/shared{n}" for n in range(4)]  # Several people write into the same directories.
MOST_FILES = 400
TREE_FILES = 150


class Keeper(Person):
    """Has files of its own in directories that it shares with others, and a directory that it renames."""

    def __init__(self, number: int, service: Service, ledger: Ledger, seed: int, stop: threading.Event) -> None:
        super().__init__(f"keeper-{number}", service, ledger, seed, stop)
        self.mine: dict[str, ExpectedFile] = {}
        self.own = f"{TOP}/own{number}/a"
        self._count = 0
        self._drafts = service.work / self.name
        self._drafts.mkdir()

    def prepare(self) -> None:
        """Files are put into directories that are not there, and moved only into those that are."""
        paths = {"paths": [*SHARED, self.own]}
        self.insist(lambda client: client.post("/api/directories", paths))

    def act(self) -> None:
        acts = [self.put, self.put, self.put, self.register, self.read, self.read]
        if len(self.mine) > 5:
            acts += [self.move, self.move, self.remove, self.rename_own]
        if len(self.mine) > MOST_FILES:
            acts = [self.remove]
        self.random.choice(acts)()

    def _new(self) -> tuple[str, bytes]:
        self._count += 1
        directory = self.random.choice([*SHARED, self.own])
        return f"{directory}/{self.name}-{self._count:06d}.dat", self.random.randbytes(self.random.randint(0, 4000))

    def put(self) -> None:
        """Ask for places, write the bytes there, register them: what `spinor file put` does."""
        contents = dict(self._new() for _ in range(self.random.randint(1, 6)))
        asked = {"se": "local", "lfns": list(contents)}
        places = self.insist(lambda client: client.post("/api/files/places", asked, list[Place]))
        new = []
        for place in places:
            written = self._write(place.url, contents[place.lfn])
            new.append(
                {
                    "lfn": place.lfn, "se": "local", "pfn": place.pfn, "size_bytes": written.size_bytes,
                    "adler32": written.adler32, "sha256": written.sha256,
                }
            )  # fmt: skip
        self._register(new, contents)

    def _write(self, url: str, content: bytes) -> Checksums:
        draft = self._drafts / "draft"
        draft.write_bytes(content)
        plugin, path = open_url(url)
        written = plugin.put([Transfer(path=path, local=draft)])[0]
        if isinstance(written, SpinorError):
            raise written
        return written

    def register(self) -> None:
        """Register bytes that somebody else has put on the storage."""
        lfn, content = self._new()
        pfn = f"arrived/{self.name}/{self._count}"
        path = self.service.storage_root / pfn
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        expected = ExpectedFile.of(content)
        self._register(
            [
                {
                    "lfn": lfn, "se": "local", "pfn": pfn, "size_bytes": expected.size_bytes,
                    "adler32": expected.adler32, "sha256": expected.sha256,
                }
            ],
            {lfn: content},
        )  # fmt: skip

    def _register(self, new: list[dict[str, object]], contents: dict[str, bytes]) -> None:
        self.insist(lambda client: client.post("/api/files/register", new))
        files = {lfn: ExpectedFile.of(content) for lfn, content in contents.items()}
        self.mine.update(files)
        self.ledger.there(files)
        self.ledger.count("register")

    def remove(self) -> None:
        lfns = self.random.sample(sorted(self.mine), self.random.randint(1, 3))
        self._look(lfns)
        outcome = self.insist(lambda client: client.post("/api/files/remove", {"paths": lfns}, Outcome))
        for refusal in outcome.refused:
            # They were there a moment ago and are ours alone, so an earlier try of this very removal took them.
            if refusal.code != "unknown-lfn":
                self.ledger.surprise(f"{refusal.id} was acknowledged and cannot be removed: {refusal.reason}")
        for lfn in lfns:
            del self.mine[lfn]
        self.ledger.removed(lfns)
        self.ledger.count("remove")

    def move(self) -> None:
        source = self.random.choice(sorted(self.mine))
        target, _ = self._new()
        self._look([source])
        self._move(source, target)
        self.mine[target] = self.mine.pop(source)
        self.ledger.moved({source: target})
        self.ledger.count("move")

    def rename_own(self) -> None:
        """Rename a whole directory; its bytes stay where they are."""
        inside = [lfn for lfn in self.mine if lfn.startswith(f"{self.own}/")]
        if not inside:
            return
        target = f"{self.own.rpartition('/')[0]}/{'b' if self.own.endswith('a') else 'a'}"
        self._look(inside)
        self._move(self.own, target)
        targets = {lfn: target + lfn.removeprefix(self.own) for lfn in inside}
        for old, new in targets.items():
            self.mine[new] = self.mine.pop(old)
        self.own = target
        self.ledger.moved(targets)
        self.ledger.count("rename directory")

    def _move(self, source: str, target: str) -> None:
        try:
            self.insist(lambda client: client.post("/api/files/move", [{"source": source, "target": target}]))
        except Refused as refused:
            # As with removal: it may be there already. What the ledger now expects is looked for at the end.
            if refused.error.code not in ("unknown-lfn", "lfn-exists"):
                raise

    def _look(self, lfns: list[str]) -> None:
        """Make sure that files of ours are still there, before they are asked to go."""
        try:
            self.insist(lambda client: client.post("/api/files/stat", {"paths": lfns}))
        except Refused as refused:
            self.ledger.surprise(f"acknowledged files are not found: {refused}")

    def read(self) -> None:
        """A file that was acknowledged is found, and has its bytes, at any time."""
        if not self.mine:
            return
        lfns = self.random.sample(sorted(self.mine), min(3, len(self.mine)))
        try:
            found = self.insist(lambda client: client.post("/api/files/replicas", {"lfns": lfns}, list[FileReplicas]))
        except Refused as refused:
            self.ledger.surprise(f"acknowledged files are not found: {refused}")
            return
        for file in found:
            content = self._content(file)
            if content is None or hashlib.sha256(content).hexdigest() != self.mine[file.lfn].sha256:
                self.ledger.surprise(f"{file.lfn} was acknowledged, and reading it gives other bytes or none")
        self.ledger.count("read")

    def _content(self, file: FileReplicas) -> bytes | None:
        copy = self._drafts / "copy"
        for replica in file.replicas:
            plugin, path = open_url(replica.url)
            copy.unlink(missing_ok=True)
            if not isinstance(plugin.get([Transfer(path=path, local=copy)])[0], SpinorError):
                return copy.read_bytes()
        return None


class Publisher(Person):
    """Runs `spinor file register-directory`, kills it in the middle, and runs it again until it is content."""

    def __init__(self, service: Service, ledger: Ledger, seed: int, stop: threading.Event) -> None:
        super().__init__("publisher", service, ledger, seed, stop)
        self._count = 0

    def act(self) -> None:
        self._count += 1
        tree = self.service.storage_root / "trees" / f"tree{self._count}"
        lfn_directory = f"{TOP}/trees/tree{self._count}"
        files = {}
        for n in range(TREE_FILES):
            path = tree / f"run{n % 7}" / f"event{n}.dat"
            path.parent.mkdir(parents=True, exist_ok=True)
            content = self.random.randbytes(self.random.randint(1, 1000))
            path.write_bytes(content)
            files[f"{lfn_directory}/run{n % 7}/event{n}.dat"] = ExpectedFile.of(content, with_sha256=False)
        self._publish(tree, lfn_directory)
        self.ledger.there(files)
        self.ledger.count("register-directory")
        self.stopping.wait(self.random.uniform(1, 5))

    def _publish(self, tree: Path, lfn_directory: str) -> None:
        end = time.monotonic() + PATIENCE_S
        words = ["file", "register-directory", str(tree), lfn_directory, "--se", "local", "--checksum", "adler32"]
        while True:
            process = subprocess.Popen(
                [*SPINOR, *words], env=self.service.environ, cwd=self.service.work,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            if self.random.random() < 0.3:
                self._kill_soon(process)
            said = process.communicate()[1]
            if process.returncode == 0:
                return
            if time.monotonic() > end:
                raise GaveUp(f"register-directory did not succeed for {PATIENCE_S:.0f} s; its last word: {said}")
            time.sleep(1)

    def _kill_soon(self, process: "subprocess.Popen[str]") -> None:
        try:
            process.wait(self.random.uniform(0.1, 1.0))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
