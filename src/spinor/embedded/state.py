"""What the supervisor writes down for `spinor status` and for its successor."""

from enum import StrEnum

import msgspec

from spinor.embedded.layout import DataDirectoryUnusable, Layout, write_private
from spinor.embedded.processes import Process


class Phase(StrEnum):
    STARTING = "starting"  # → up, failed, stopping
    UP = "up"  # → stopping
    STOPPING = "stopping"  # → stopped
    STOPPED = "stopped"
    FAILED = "failed"


class PartRecord(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    argv: tuple[str, ...]
    process: Process | None
    restarts: int = 0
    last_exit: int | None = None  # Of the process before; negative is the number of the signal that ended it.


class State(msgspec.Struct, frozen=True, kw_only=True):
    run: str  # Which call of `up` made this supervisor.
    phase: Phase
    supervisor: Process
    version: str
    url: str
    port: int
    database_url: str  # Holds a password; the file is readable by its owner only.
    embedded_database: bool
    parts: tuple[PartRecord, ...] = ()
    failed_part: str | None = None
    failure: str | None = None

    @property
    def is_supervised(self) -> bool:
        return self.supervisor.is_alive

    def part(self, name: str) -> PartRecord | None:
        return next((part for part in self.parts if part.name == name), None)


def read_state(layout: Layout) -> State | None:
    """None when nothing was ever up here, or when the file was written by a version that recorded other things."""
    try:
        return msgspec.json.decode(layout.state.read_bytes(), type=State)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    except OSError as error:
        raise DataDirectoryUnusable(
            f"{layout.state} cannot be read ({error.strerror}); use the account that ran `spinor up`, or name your own "
            "data directory with --data."
        ) from error


def write_state(layout: Layout, state: State) -> None:
    write_private(layout.state, msgspec.json.format(msgspec.json.encode(state)) + b"\n")
