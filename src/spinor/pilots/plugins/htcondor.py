"""Pilots as jobs of HTCondor: of this machine's schedd, of a remote one, or of an HTCondor-CE.

Needs the bindings (`pip install 'spinor[htcondor]'`). Pilots are spooled, so that schedd and worker share no file
system. `external_id` is cluster and process, as condor_q prints them.
"""

import asyncio
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import (
    BadOptions,
    ElementRefused,
    ElementSettings,
    ElementUnavailable,
    PilotLaunch,
    Submitted,
)
from spinor.pilots.plugins.files import PREPARE, START, secret_directory
from spinor.pilots.plugins.machines import TRANSFER_S
from spinor.pilots.plugins.options import PilotOptions, options_of, secret_file, wrong

_CALLS = Path(__file__).with_name("htcondor_calls.py")
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
# When a job ends, the starter leaves what it has not read of the job's streams; so the script ends after it has.
_SCRIPT = (
    PREPARE
    + START
    + b""" &
pilot=$!
trap 'kill -TERM "$pilot"' TERM
wait "$pilot"
code=$?
while kill -0 "$pilot" 2>/dev/null; do
    wait "$pilot"
    code=$?
done
"$1" -I -c '
import array, fcntl, os, stat, termios, time
def unread(number):
    size = array.array("i", [0])
    if stat.S_ISFIFO(os.fstat(number).st_mode):
        fcntl.ioctl(number, termios.FIONREAD, size)
    return size[0]
end = time.monotonic() + 10
while time.monotonic() < end and (unread(1) or unread(2)):
    time.sleep(0.02)
'
exit "$code"
"""
).decode()
_ID = re.compile(r"[0-9]{1,9}\.[0-9]{1,6}")
_SPOOLING = 16  # The HoldReasonCode of a job whose files are on their way.
_LIMIT_S = 120  # Nobody waits longer for an answer,
_TRANSFER_S = int(TRANSFER_S)  # save for one with a file that may be large.
# Commands of the submit language that choose among the site's resources. The others are ours, or could read files here.
_ALLOWED = frozenset({
    "accounting_group", "accounting_group_user", "batch_name", "batch_project", "batch_queue", "concurrency_limits",
    "container_image", "grid_resource", "nice_user", "priority", "rank", "request_disk", "request_gpus",
    "require_gpus", "requirements", "universe",
})  # fmt: skip


class Options(PilotOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without `collector` the schedd is the one of this machine's own HTCondor configuration, or of `config`."""

    collector: str = ""  # Host and port; an HTCondor-CE listens on 9619.
    schedd: str = ""  # Its name in the collector; a CE's is its host's.
    config: str = ""  # An HTCondor configuration below the place of secrets.
    token_directory: str = ""  # IDTOKENS: a directory below the place of secrets.
    token_file: str = ""  # A SciToken or WLCG token, below the place of secrets; read at each call.
    ca_file: str = ""  # Who certifies the schedd's host, for tokens of the second kind; otherwise the system's.
    trust_domain: str = ""
    python: str = "python3"  # On the worker node.
    # More of the submit language: accounting_group, "+queue": '"short"', ...
    submit: dict[str, str] = msgspec.field(default_factory=dict)
    grace_s: int = 20
    keep_s: int = 3600  # How long ended jobs stay in the queue, for their output.


class HTCondorComputing:
    """A computing element behind one schedd."""

    name: ClassVar[str] = "htcondor"

    def __init__(self, element: ElementSettings) -> None:
        self.options = options_of(element, Options)
        self.element = element
        for key, value in self.options.submit.items():
            free = key.startswith("+") and key[1:].isidentifier() and not key.lower().startswith("+spinor")
            if not (free or key.lower() in _ALLOWED) or not value.isprintable() or "$" in value:
                raise wrong(
                    element,
                    f"submit has {key!r}; it may have attributes that begin with '+', and "
                    f"{', '.join(sorted(_ALLOWED))}, and values are one line without '$'",
                )
        self._environ = self._environment()

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        answers: list[Submitted] = []
        # What a job asks for is one description; pilots of one element ask for the same, save in tests.
        for shape in sorted({_shape(pilot) for pilot in pilots}):
            alike = [pilot for pilot in pilots if _shape(pilot) == shape]
            marks = {_mark(pilot): pilot for pilot in alike}
            launches = [
                {
                    "pilot_id": pilot.pilot_id,
                    "mark": mark,
                    "launch": pilot.launch_file().decode(),
                    "bundle": str(pilot.bundle),
                }
                for mark, pilot in marks.items()
            ]
            limit_s = _limit_s(alike[0])
            found = await self._call(
                "submit", limit_s, launches=launches, script=_SCRIPT, submit=self._description(alike[0]),
                spool_s=_spool_s(limit_s),
            )  # fmt: skip
            answers += [
                Submitted(pilot_id=pilot.pilot_id, external_id=found.get(mark), error="" if mark in found else "lost")
                for mark, pilot in marks.items()
            ]
        return answers

    async def find(self, pilot_ids: Sequence[int]) -> Mapping[int, str]:
        if not pilot_ids:
            return {}
        found = await self._call("find", pilot_ids=list(pilot_ids))
        return {int(number): external_id for number, external_id in found.items()}

    async def status(self, external_ids: Sequence[str]) -> Mapping[str, ElementState]:
        known = _known(external_ids)
        ads = await self._call("status", external_ids=known) if known else {}
        # The schedd has answered, so a job that is not in its queue is gone.
        return {each: state_of(ads[each]) if each in ads else ElementState.VANISHED for each in external_ids}

    async def cancel(self, external_ids: Sequence[str]) -> None:
        if known := _known(external_ids):
            await self._call("cancel", external_ids=known)

    async def output(self, external_ids: Sequence[str]) -> Mapping[str, str]:
        known = _known(external_ids)
        found: Mapping[str, str] = await self._call("output", external_ids=known) if known else {}
        return found

    async def bring(self, external_id: str, name: str, target: Path) -> bool:
        known = _known([external_id])
        return bool(known and await self._call("bring", _TRANSFER_S, external_ids=known, name=name, target=str(target)))

    # ------------------------------------------------------------------------------------------------------ details

    def _description(self, pilot: PilotLaunch) -> dict[str, str]:
        """The part of the submit language that this element and this kind of pilot decide."""
        options = self.options
        environment = " ".join(f"{name}={_in_quotes(value)}" for name, value in options.environment.items())
        minutes = -(-pilot.wall_s // 60) + 5
        spool_s = _spool_s(_limit_s(pilot))
        lines = {
            "arguments": f'"{_in_quotes(options.python)} {_in_quotes(pilot.bundle.name)}"',
            "environment": f'"{environment}"',
            "request_cpus": str(pilot.cores),
            "request_memory": str(-(-pilot.memory_bytes // 2**20)),
            "job_max_vacate_time": str(options.grace_s),
            "allowed_job_duration": str(minutes * 60),
            # HTCondor-CE's names for the same, from which it makes the request to the batch system behind it.
            "+maxWallTime": str(minutes),
            "+xcount": str(pilot.cores),
            "+maxMemory": str(-(-pilot.memory_bytes // 2**20)),
            "leave_in_queue": f"JobStatus == 4 && time() - CompletionDate < {options.keep_s}",
            "periodic_remove": "(JobStatus == 1 && NumJobStarts > 0) || (JobStatus == 5 && "
            f"time() - EnteredCurrentStatus > (HoldReasonCode == {_SPOOLING} ? {spool_s * 2} : {options.keep_s}))",
        }
        return lines | options.submit

    def _environment(self) -> dict[str, str]:
        options, element = self.options, self.element
        found = {name: os.environ[name] for name in _KEPT if name in os.environ}
        if options.config:
            found["CONDOR_CONFIG"] = str(secret_file(element, "config", options.config, private=False))
        elif options.collector:
            found["CONDOR_CONFIG"] = "/dev/null"  # Nothing of this machine's own pool.
        elif "CONDOR_CONFIG" in os.environ:
            found["CONDOR_CONFIG"] = os.environ["CONDOR_CONFIG"]
        methods = []
        if options.token_directory:
            methods.append("IDTOKENS")
            tokens = secret_directory(element, "token_directory", options.token_directory)
            found["_CONDOR_SEC_TOKEN_DIRECTORY"] = str(tokens)
        if options.token_file:
            methods.append("SCITOKENS")
            token = str(secret_file(element, "token_file", options.token_file))
            found["_CONDOR_SCITOKENS_FILE"] = found["BEARER_TOKEN_FILE"] = token
        if options.ca_file:
            authority = secret_file(element, "ca_file", options.ca_file, private=False)
            found["_CONDOR_AUTH_SSL_CLIENT_CAFILE"] = str(authority)
        if methods:
            found["_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS"] = ",".join(methods)
        if options.trust_domain:
            found["_CONDOR_TRUST_DOMAIN"] = options.trust_domain
        return found

    async def _call(self, call: str, limit_s: int = _LIMIT_S, /, **facts: Any) -> Any:
        if find_spec("htcondor2") is None:
            raise BadOptions(
                f"Computing element {self.element.name!r} needs HTCondor's bindings on every worker: "
                "pip install 'spinor[htcondor]'."
            )
        options, element = self.options, self.element
        asked = {
            "call": call, "collector": options.collector, "schedd": options.schedd, "service": element.url,
            "element": f"{element.site}/{element.name}", "directory": str(element.directory / "output"),
            "limit_s": limit_s, **facts,
        }  # fmt: skip
        process: list[subprocess.Popen[bytes]] = []
        try:
            said, complained = await asyncio.to_thread(_run, msgspec.json.encode(asked), self._environ, process)
        except asyncio.CancelledError:
            # A submission that has begun goes on, also when this worker is killed: a job that never gets its files
            # would be in the way of the next attempt.
            if call != "submit" and process:
                process[0].kill()
            raise
        try:
            told = msgspec.json.decode(said)
        except msgspec.DecodeError:
            words = complained.decode("utf-8", "replace").strip()[-1000:]
            raise ElementUnavailable(f"HTCondor's bindings ended with {process[0].returncode}: {words}") from None
        if "error" not in told:
            return told["answer"]
        where = options.schedd or options.collector or "this machine's schedd"
        refusal = ElementRefused if told["denied"] else ElementUnavailable
        raise refusal(f"{where}: {told['error']}")


def _run(asked: bytes, environ: Mapping[str, str], process: "list[subprocess.Popen[bytes]]") -> tuple[bytes, bytes]:
    """Run the calls' script to its end, which it sets itself; `process` lets another thread end it before."""
    with subprocess.Popen(
        [sys.executable, "-I", "-B", str(_CALLS)], env=environ, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as started:  # fmt: skip
        process.append(started)
        return started.communicate(asked)


def state_of(ad: Mapping[str, Any]) -> ElementState:
    """What a job's advertisement says."""
    match ad["JobStatus"]:
        case 1:
            return ElementState.WAITING
        case 2 | 6 | 7:  # Running, transferring its output, suspended.
            return ElementState.RUNNING
        case 3:  # Removed: it stays in the queue until it has ended.
            return ElementState.RUNNING if ad.get("NumJobStarts") else ElementState.VANISHED
        case 4:
            well = ad.get("ExitCode") == 0 and not ad.get("ExitBySignal")
            return ElementState.DONE if well else ElementState.FAILED
        case 5:
            return ElementState.WAITING if ad.get("HoldReasonCode") == _SPOOLING else ElementState.FAILED
    return ElementState.UNKNOWN


def _known(external_ids: Sequence[str]) -> list[str]:
    return [each for each in external_ids if _ID.fullmatch(each)]


def _shape(pilot: PilotLaunch) -> tuple[int, int, int, str, str]:
    return pilot.cores, pilot.memory_bytes, pilot.wall_s, pilot.bundle.name, pilot.leaves


def _limit_s(pilot: PilotLaunch) -> int:
    """How long its submission may take: what is to leave a file comes with a parcel."""
    return _TRANSFER_S if pilot.leaves else _LIMIT_S


def _spool_s(limit_s: int) -> int:
    """After so long a job without its files waits for a submitter that has ended."""
    return limit_s + 60


def _mark(pilot: PilotLaunch) -> str:
    """Tells pilots of the same number apart; a hash, since a job's attributes can be read by anybody."""
    return hashlib.sha256(f"mark {pilot.pilot_id} {pilot.secret}".encode()).hexdigest()


def _in_quotes(word: str) -> str:
    """One word of the new syntax of arguments and environment, which stands between double quotes as a whole."""
    return "'" + word.replace("'", "''").replace('"', '""') + "'"
