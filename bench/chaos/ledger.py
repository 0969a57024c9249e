"""What the service has acknowledged, as those remember it who were told: the truth that it is held to afterwards."""

import hashlib
import threading
import zlib
from collections import Counter

import msgspec


class ExpectedFile(msgspec.Struct, frozen=True, kw_only=True):
    """An acknowledged file. `sha256` is None where the catalog was never told one."""

    size_bytes: int
    adler32: str
    sha256: str | None

    @staticmethod
    def of(content: bytes, *, with_sha256: bool = True) -> "ExpectedFile":
        return ExpectedFile(
            size_bytes=len(content),
            adler32=f"{zlib.adler32(content):08x}",
            sha256=hashlib.sha256(content).hexdigest() if with_sha256 else None,
        )


class ExpectedJob(msgspec.Struct, kw_only=True):
    """An acknowledged job, and what was acknowledged about it later."""

    fails: bool  # Its payload ends with an error by itself.
    outputs: dict[str, bytes]  # LFN -> content, if it is done.
    killed: bool = False


class Ledger:
    """Written by several threads. Who writes here has an answer of the service in hand."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.files: dict[str, ExpectedFile] = {}
        self.gone: set[str] = set()
        self.jobs: dict[int, ExpectedJob] = {}
        self.operations: Counter[str] = Counter()
        self.surprises: list[str] = []  # Answers that no fault explains.
        self.notes: Counter[str] = Counter()  # Odd, and no broken promise.

    def count(self, operation: str) -> None:
        with self.lock:
            self.operations[operation] += 1

    def surprise(self, sentence: str) -> None:
        with self.lock:
            self.surprises.append(sentence)

    def note(self, sentence: str) -> None:
        with self.lock:
            self.notes[sentence] += 1

    def there(self, files: dict[str, ExpectedFile]) -> None:
        with self.lock:
            self.files.update(files)
            self.gone -= files.keys()

    def moved(self, targets: dict[str, str]) -> None:
        """Old name -> new name."""
        with self.lock:
            for source, target in targets.items():
                self.files[target] = self.files.pop(source)
                self.gone.discard(target)
                self.gone.add(source)

    def removed(self, lfns: list[str]) -> None:
        with self.lock:
            for lfn in lfns:
                del self.files[lfn]
                self.gone.add(lfn)
