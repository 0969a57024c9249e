"""Where the commands of a batch system are run: on this machine, or on another one through SSH.

No shell gets a word of ours to take apart: here a command is a list of words, and there the words are quoted. Longer
scripts, and all that is secret, go in by standard input, which no list of processes shows.
"""

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from spinor.pilots.plugin import ElementUnavailable

TIMEOUT_S = 30.0  # Of one command, so that a verb can tell about it before it is cut off itself.
TRANSFER_S = 3600.0  # Of a file that comes or goes, which no round of the factory waits for.
# Commands get nothing else of the worker's environment, which holds the database's address.
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_NO_FILE = 66


class Ran(NamedTuple):
    """A command that has ended."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.decode("utf-8", "replace").splitlines()


class Machine(Protocol):
    """A machine on which commands are run."""

    name: str

    async def run(
        self,
        words: Sequence[str],
        stdin: bytes | Path = b"",
        *,
        stdout: Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Ran:
        """Run a command to its end, whatever its exit code; ElementUnavailable when that is not possible.

        It reads from a file and writes into one of the worker's machine, where these are given.
        """


class ThisMachine:
    """Commands are started by the worker itself, under its account."""

    name = "this machine"

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = dict(variables or {})

    async def run(
        self,
        words: Sequence[str],
        stdin: bytes | Path = b"",
        *,
        stdout: Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Ran:
        with contextlib.ExitStack() as files:
            source = files.enter_context(stdin.open("rb")) if isinstance(stdin, Path) else None
            target = files.enter_context(stdout.open("wb")) if stdout else None
            return await self._run(words, b"" if isinstance(stdin, Path) else stdin, source, target, timeout_s)

    async def _run(
        self, words: Sequence[str], stdin: bytes, source: BinaryIO | None, target: BinaryIO | None, timeout_s: float
    ) -> Ran:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=source or asyncio.subprocess.PIPE,
                stdout=target or asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": os.defpath, **kept, **self._variables},
                start_new_session=True,
            )
        except OSError as error:
            raise ElementUnavailable(f"{words[0]} cannot be run on {self.name}: {error.strerror}.") from error
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate(None if source else stdin)
        except TimeoutError:
            raise ElementUnavailable(f"{words[0]} did not end within {timeout_s:.0f} s on {self.name}.") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return Ran(process.returncode or 0, out or b"", err.decode("utf-8", "replace"))


async def run_script(machine: Machine, script: str, *, timeout_s: float = TIMEOUT_S) -> Ran:
    """Run a script of the POSIX shell, which comes in by standard input: its commands must not read from there."""
    return await machine.run(["/bin/sh"], script.encode(), timeout_s=timeout_s)


async def put(machine: Machine, path: str, content: Path) -> None:
    """Bring a file there, of mode 0600 and in one step; its directory is made where it is missing.

    Its size is looked at there, since a connection that is lost looks like the end of the file.
    """
    script = (
        'umask 077 && mkdir -p -- "${1%/*}" || exit; new=$1.new.$$; '
        'if cat >"$new" && [ "$(wc -c <"$new")" -eq "$2" ] && mv -f -- "$new" "$1"; then exit 0; fi; '
        'rm -f -- "$new"; echo "not all of its $2 bytes are there" >&2; exit 1'
    )
    size_bytes = (await asyncio.to_thread(content.stat)).st_size
    words = ["/bin/sh", "-c", script, "put", path, str(size_bytes)]
    ran = await machine.run(words, content, timeout_s=TRANSFER_S)
    if ran.code != 0:
        raise ElementUnavailable(f"{path} cannot be written on {machine.name}: {said(ran)}")


async def fetch(machine: Machine, path: str, target: Path) -> bool:
    """Bring a file from there, complete or not at all; False when there is none."""
    script = f'[ -f "$1" ] && [ ! -L "$1" ] || exit {_NO_FILE}; cat -- "$1"'
    part = target.with_name(f".{target.name}.part")
    ran = await machine.run(["/bin/sh", "-c", script, "fetch", path], stdout=part, timeout_s=TRANSFER_S)
    if ran.code == 0:
        part.rename(target)
        return True
    part.unlink()
    if ran.code == _NO_FILE:
        return False
    raise ElementUnavailable(f"{path} cannot be read on {machine.name}: {said(ran)}")


def said(ran: Ran) -> str:
    """What a command that failed has said, in one line."""
    words = " ".join((ran.err.strip() or ran.out.decode("utf-8", "replace").strip()).split())
    return f"exit code {ran.code}: {words[-500:]}" if words else f"exit code {ran.code}"


def quoted(words: Sequence[str]) -> str:
    """One line for the POSIX shell of another machine."""
    return shlex.join(words)
