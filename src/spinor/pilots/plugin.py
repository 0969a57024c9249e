"""The contract of a computing-element plugin: four verbs over many pilots, and one to find what was submitted.

A plugin is a class; the factory makes one object per round for an element of the operations data and calls it outside
any transaction. All verbs are coroutines and must not block (what blocks goes through `asyncio.to_thread`). They are
cut off after `TIMEOUT_S`. A worker can be killed in the middle of a verb, and another one then begins anew: so every
verb can be called again with the same arguments, by another process, at any time. Sizes are bytes, times are seconds.

Errors: raise `ElementUnavailable` when asking again later can help (the element does not answer), any other SpinorError
when an operator must act (wrong options, refused credentials). Both are logged and make the factory pause for that
element. A problem with single pilots is not raised but told: `Submitted.error`.

Each plugin must pass the suite in `spinor.testing.computing_contract`.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

import msgspec

from spinor.errors import SpinorError, Unavailable
from spinor.pilots.models import ElementState

TIMEOUT_S = 60.0
GROUP = "spinor.computing"  # The entry-point group of plugins from other distributions.
BUILT_IN = {
    "local": "spinor.pilots.plugins.local:LocalComputing",
    "arc": "spinor.pilots.plugins.arc:ARCComputing",
    "ssh": "spinor.pilots.plugins.ssh:SSHComputing",
    "slurm": "spinor.pilots.plugins.slurm:SlurmComputing",
    "slurmrestd": "spinor.pilots.plugins.slurmrestd:SlurmRestComputing",
    "htcondor": "spinor.pilots.plugins.htcondor:HTCondorComputing",
    "kubernetes": "spinor.pilots.plugins.kubernetes:KubernetesComputing",
    "push": "spinor.pilots.plugins.push:PushComputing",
}


class ElementUnavailable(Unavailable):
    """The computing element does not answer; the factory tries again by itself."""

    code = "element-unavailable"


class ElementRefused(SpinorError):
    """The computing element refuses this service; an operator must look at its credentials and options."""

    status, code = 502, "element-refused"


class UnknownPlugin(SpinorError):
    """There is no computing-element plugin of that name."""

    status, code = 422, "unknown-plugin"


class BadOptions(SpinorError):
    """The options of a computing element are wrong."""

    status, code = 422, "bad-options"


class NodeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator says of an element's nodes, its option `node`: docs/explanation/pilots.md."""

    isolation: Literal["required", "preferred", "none"] = "preferred"
    hidden: list[str] = []  # Directories that no payload may see, beside the accounts' own.
    visible: list[str] = []  # What payloads need below hidden ones; read-only.
    benchmark_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 1  # 0: no benchmark.
    cvmfs: list[str] = []  # Repositories that must be there, else the node is unfit.
    reach: list[str] = []  # Storages that must answer: URLs or host:port.


class PilotLaunch(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to start one pilot.

    The secret is worth a slot: it must not appear in an argument list, a log, or a file that others can read. Give it
    to the pilot inside `launch_file()` with mode 0600, which the pilot deletes when it has enrolled.
    """

    pilot_id: int
    secret: str
    url: str  # Of the server.
    ca_pem: str  # The certificate authority of the server; empty: the node's own trust store.
    vo: str
    cores: int
    memory_bytes: int
    wall_s: int  # From the start of the pilot to the end of its slot.
    tags: list[str] = []
    idle_s: float = 15  # A pilot leaves after so long without work.
    grace_s: float = 20  # What SIGTERM leaves to its payloads, before it gives their jobs back.
    node: NodeOptions = NodeOptions()
    bundle: Path  # The pilot itself, `spinor-pilot.pyz`: run `python3 spinor-pilot.pyz launch.json`.
    leaves: str = ""  # A file that the pilot leaves beside its launch file, for `BringsFiles.bring`.

    def launch_file(self) -> bytes:
        """The JSON file that the pilot reads."""
        facts = {name: getattr(self, name) for name in self.__struct_fields__ if name not in ("bundle", "leaves")}
        return msgspec.json.encode(facts)

    def __repr__(self) -> str:
        return f"PilotLaunch(pilot_id={self.pilot_id}, vo={self.vo!r}, cores={self.cores})"


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome for one pilot: what the element calls it, or why the element refused it for good."""

    pilot_id: int
    external_id: str | None = None
    error: str = ""


class ElementSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin object is made for."""

    name: str
    site: str
    options: Mapping[str, Any]
    directory: Path  # For the plugin's own files, when the options name none. It may not exist yet.
    # This service. Others may submit to the same element from the same account, and their pilots have the same numbers.
    url: str = ""
    secrets: Path = Path("/nonexistent")  # Keys, tokens and known hosts that options name: files below it.


class ComputingPlugin(Protocol):
    """One computing element, as the factory uses it."""

    name: ClassVar[str]

    def __init__(self, element: ElementSettings) -> None:
        """Check the options (BadOptions names the wrong one); touch nothing outside."""

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        """Start pilots; one answer per pilot, in any order.

        Idempotent by `pilot_id`: a pilot that the element has already is not started twice, its external id is given
        again. When this raises, some may have been started: `find` tells which.
        """

    async def find(self, pilot_ids: Sequence[int]) -> Mapping[int, str]:
        """The external ids of those pilots that the element has or had, by pilot.

        Asked when a worker died between submitting and recording. A pilot that is not in the answer counts as never
        submitted and is given up.
        """

    async def status(self, external_ids: Sequence[str]) -> Mapping[str, ElementState]:
        """The state of each. Missing ones count as UNKNOWN, which changes nothing; say VANISHED only when sure."""

    async def cancel(self, external_ids: Sequence[str]) -> None:
        """Stop pilots: ask first (SIGTERM or the element's way), force after a grace of a few seconds.

        Unknown and ended ones are passed over. It is called again until `status` says that they are gone, so what must
        be forced can be forced by a later call; a verb that waits for the grace holds up its whole round.
        """

    async def output(self, external_ids: Sequence[str]) -> Mapping[str, str]:
        """The last 64 KiB of each pilot's stdout and stderr, for people. Empty when there is none (any more)."""


@runtime_checkable
class BringsFiles(Protocol):
    """What a plugin must be able to do beside, so that pilots can work on nodes without network: see `push`."""

    async def bring(self, external_id: str, name: str, target: Path) -> bool:
        """Copy the file that an ended pilot left (`name` as in `PilotLaunch.leaves`) to `target`; False without one."""


def plugin_named(name: str) -> Callable[[ElementSettings], ComputingPlugin]:
    """The plugin class of this name; UnknownPlugin says what there is and how to get more."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        found: Callable[[ElementSettings], ComputingPlugin] = getattr(importlib.import_module(module), attribute)
        return found
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name in others:
        loaded: Callable[[ElementSettings], ComputingPlugin] = others[name].load()
        return loaded
    known = ", ".join(sorted({*BUILT_IN, *others}))
    raise UnknownPlugin(
        f"There is no computing-element plugin {name!r} here; known: {known}. "
        f"Install the package that brings it (entry-point group {GROUP!r}) on every worker.",
        plugin=name,
    )
