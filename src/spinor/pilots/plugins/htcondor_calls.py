"""One call to a schedd, in a process of its own: this file is run as a script, and imports nothing of Spinor.

The bindings keep one configuration and one set of security sessions for the whole process, end the process where they
meet what they do not expect, and let no other thread run while they wait. So each call of each element has a process,
its configuration comes in variables of the environment, and whoever waits can kill it.

Reads one JSON object from standard input and writes one: {"answer": ...} or {"error": ..., "denied": ...}.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import classad2
import htcondor2

_BEGIN_S = 120  # What is asked has come by then, and says how long its answer may take.
_REMOVED, _COMPLETED, _HELD = 3, 4, 5
_SPOOLING = 16  # The HoldReasonCode of a job whose files are on their way.
_ABANDONED_S = 2 * 3600  # No call goes on for so long.
_SENT, _HOME = "sent-", "pilot-"  # Directories of what one call sends, and of what comes back of one pilot.
_PROJECTION = [
    "ClusterId", "ProcId", "JobStatus", "QDate", "ExitCode", "ExitBySignal", "HoldReason", "HoldReasonCode",
    "NumJobStarts", "SpinorPilotId", "SpinorMark",
]  # fmt: skip
# A pilot is started once: its secret works once, so a second start could do nothing but fail.
_RULES = {
    "universe": "vanilla",
    "output": "stdout",
    "error": "stderr",
    "stream_output": "True",
    "stream_error": "True",
    "should_transfer_files": "YES",
    "when_to_transfer_output": "ON_EXIT",
    "log": "",
    "notification": "Never",
    "want_graceful_removal": "True",
    "on_exit_remove": "True",
    "on_exit_hold": "False",
}


class Calls:
    """The calls of one element. `service` and `element` mark its jobs, and no other job is touched."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.schedd = _schedd(asked["collector"], asked["schedd"])
        self.ours = f"SpinorService == {_quoted(asked['service'])} && SpinorElement == {_quoted(asked['element'])}"

    def submit(self) -> dict[str, str]:
        """Submit pilots that are not there yet; the ids of all, by their marks.

        Jobs are submitted on hold, until their files come. So two workers that submit the same pilot both see that:
        the lower cluster is the one that counts, and its files are sent only after a look at the queue.
        """
        launches = {each["mark"]: each for each in self.asked["launches"]}
        directory = _made(Path(self.asked["directory"]))
        _sweep(directory)
        for _ in range(5):
            there = self._marked(launches)
            missing = {mark: each for mark, each in launches.items() if mark not in there}
            if not missing:
                return there
            with tempfile.TemporaryDirectory(prefix=_SENT, dir=directory) as place:
                result = self._queue(Path(place), missing)
                first = self._marked(missing)
                if all(_cluster(first.get(mark, "")) == result.cluster() for mark in missing):
                    self.schedd.spool(result)
                    return there | first
            self.schedd.act(htcondor2.JobAction.Remove, f"ClusterId == {result.cluster()}", "submitted twice")
        raise RuntimeError("other workers submit the same pilots again and again")

    def find(self) -> dict[str, str]:
        """The newest job of each pilot, by its number."""
        numbers = ",".join(str(int(each)) for each in self.asked["pilot_ids"])
        return {str(ad["SpinorPilotId"]): _id(ad) for ad in self._query(f"member(SpinorPilotId, {{{numbers}}})")}

    def status(self) -> dict[str, dict[str, Any]]:
        return {_id(ad): _plain(ad) for ad in self._query(self._named())}

    def cancel(self) -> None:
        alive = f"({self.ours}) && ({self._named()}) && JobStatus != {_COMPLETED}"
        self.schedd.act(htcondor2.JobAction.Remove, alive, "Spinor ended this pilot")

    def output(self) -> dict[str, str]:
        """The words of each job so far, and why it is held."""
        found = {}
        for ad in self.schedd.query(f"({self.ours}) && ({self._named()})", [*_PROJECTION, "SUBMIT_Iwd", "StreamOut"]):
            with self._retrieved(ad) as place:
                found[_id(ad)] = _tail(place / "stdout") + _tail(place / "stderr") + _held(ad)
        return found

    def bring(self) -> bool:
        """Move a file that a job has left to where it is wanted."""
        for ad in self.schedd.query(f"({self.ours}) && ({self._named()})", [*_PROJECTION, "SUBMIT_Iwd", "StreamOut"]):
            with self._retrieved(ad) as place:
                left = place / self.asked["name"]
                if left.is_file() and not left.is_symlink():
                    shutil.move(left, self.asked["target"])
                    return True
        return False

    # ------------------------------------------------------------------------------------------------------ details

    @contextmanager
    def _retrieved(self, ad: Any) -> Iterator[Path]:
        """A directory with what the schedd has of the job, for as long as the block lasts."""
        place = Path(ad.get("SUBMIT_Iwd") or "/nonexistent")
        # The bindings put the files where the job was submitted from; that directory is ours alone, or not at all.
        if place.parent != Path(self.asked["directory"]):
            yield Path("/nonexistent")
            return
        _made(place)
        try:
            if ad["JobStatus"] == _COMPLETED and ad.get("StreamOut"):
                # What a job streamed is not among what it brought back, so the schedd would keep it to itself.
                self.schedd.edit(_id(ad), "StreamOut", "false")
                self.schedd.edit(_id(ad), "StreamErr", "false")
            self.schedd.retrieve(_id(ad))
            yield place
        finally:
            _empty(place)

    def _marked(self, marks: dict[str, Any]) -> dict[str, str]:
        """The first job of each mark that has, or waits for, its files. Who has lost its submitter makes room."""
        wanted = ",".join(_quoted(mark) for mark in marks)
        ads = self._query(f"member(SpinorMark, {{{wanted}}}) && JobStatus != {_REMOVED}")
        latest = time.time() - self.asked["spool_s"]  # Whose files have not come since then has lost its submitter.
        lost = [_id(ad) for ad in ads if ad.get("HoldReasonCode") == _SPOOLING and ad["QDate"] < latest]
        if lost:
            self.schedd.act(htcondor2.JobAction.Remove, lost, "its files never came")
        # The oldest comes last and stays.
        return {ad["SpinorMark"]: _id(ad) for ad in reversed(ads) if _id(ad) not in lost}

    def _queue(self, place: Path, launches: dict[str, dict[str, Any]]) -> Any:
        items = list(_items(place, Path(self.asked["directory"]), launches, self.asked["script"]))
        marks = {"My.SpinorService": _quoted(self.asked["service"]), "My.SpinorElement": _quoted(self.asked["element"])}
        own = {"My.SpinorPilotId": "$(pilot_id)", "My.SpinorMark": '"$(mark)"'}
        files = {"initialdir": "$(home)", "executable": "$(script)", "transfer_input_files": "$(bundle), $(launch)"}
        submit = htcondor2.Submit({**_RULES, **self.asked["submit"], **marks, **own, **files})
        return self.schedd.submit(submit, spool=True, itemdata=iter(items))

    def _query(self, constraint: str) -> list[Any]:
        ads = self.schedd.query(f"({self.ours}) && ({constraint})", _PROJECTION)
        return sorted(ads, key=lambda ad: (ad["ClusterId"], ad["ProcId"]))

    def _named(self) -> str:
        ids = ",".join(_quoted(each) for each in self.asked["external_ids"])
        return f'member(strcat(string(ClusterId), ".", string(ProcId)), {{{ids}}})'


def _schedd(collector: str, name: str) -> Any:
    pool = htcondor2.Collector(collector) if collector else htcondor2.Collector()
    found = pool.locate(htcondor2.DaemonType.Schedd, name) if name else pool.locate(htcondor2.DaemonType.Schedd)
    if found is None:
        raise RuntimeError(f"the collector {collector or 'of this machine'} knows no schedd {name}".rstrip())
    return htcondor2.Schedd(found)


def _items(place: Path, directory: Path, launches: dict[str, dict[str, Any]], script: str) -> Iterator[dict[str, str]]:
    """What differs between the jobs. Launch files exist for as long as they are sent."""
    start = place / "start.sh"
    start.write_text(script, encoding="utf-8")
    start.chmod(0o700)
    for mark, each in launches.items():
        home = _made(directory / f"{_HOME}{each['pilot_id']}")
        launch = place / str(each["pilot_id"]) / "launch.json"
        launch.parent.mkdir(mode=0o700)
        with open(os.open(launch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(each["launch"])
        yield {
            "pilot_id": str(each["pilot_id"]), "mark": mark, "home": str(home), "script": str(start),
            "bundle": each["bundle"], "launch": str(launch),
        }  # fmt: skip


def _sweep(directory: Path) -> None:
    """Remove what calls have left that were ended in the middle, launch files with their secrets above all.

    And the pilots' directories, which whoever needs one makes again.
    """
    latest = time.time() - _ABANDONED_S
    for each in directory.iterdir():
        with suppress(FileNotFoundError):  # Another call may be doing the same.
            if each.name.startswith((_SENT, _HOME)) and each.stat().st_mtime < latest:
                shutil.rmtree(each)


def _made(directory: Path) -> Path:
    """A directory that no sweep takes for abandoned while it is used."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.utime(directory)
    return directory


def _quoted(text: str) -> str:
    return str(classad2.quote(text))


def _id(ad: Any) -> str:
    return f"{ad['ClusterId']}.{ad['ProcId']}"


def _cluster(external_id: str) -> int:
    return int(external_id.partition(".")[0] or 0)


def _plain(ad: Any) -> dict[str, Any]:
    return {name: ad[name] for name in _PROJECTION if isinstance(ad.get(name), (str, int, bool))}


def _held(ad: Any) -> str:
    if ad["JobStatus"] != _HELD or ad.get("HoldReasonCode") == _SPOOLING:
        return ""
    return f"HTCondor holds this job: {ad.get('HoldReason')} (code {ad.get('HoldReasonCode')})\n"


def _tail(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ""
    return data[-64 * 1024 :].decode("utf-8", "replace")


def _empty(place: Path) -> None:
    for each in place.iterdir():
        if each.is_file() or each.is_symlink():
            each.unlink(missing_ok=True)


def _is_denied(error: Exception) -> bool:
    words = str(error).lower()
    return any(word in words for word in ("authenticat", "permission denied", "not authorized", "owner"))


def main() -> None:
    signal.alarm(_BEGIN_S)
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # The bindings may print; what they print is no answer.
    asked = json.load(sys.stdin)
    signal.alarm(asked["limit_s"])
    try:
        told: dict[str, Any] = {"answer": getattr(Calls(asked), asked["call"])()}
    except (htcondor2.HTCondorException, classad2.ClassAdException, RuntimeError, OSError, ValueError) as error:
        told = {"error": str(error), "denied": _is_denied(error)}
    json.dump(told, answer)
    answer.flush()


main()
