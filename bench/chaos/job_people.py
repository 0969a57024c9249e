"""People who submit jobs, and kill or reschedule some of them."""

import threading
from typing import Any

import msgspec

from bench.chaos.file_people import TOP
from bench.chaos.ledger import ExpectedJob, Ledger
from bench.chaos.people import Person
from bench.service import Service
from spinor.client import Client
from spinor.jobs.models import Outcome, Submitted, Waited

MOST_UNFINISHED = 8  # Per person, so that what waits is done soon after the last fault.
REMEMBERED = 30
# A payload writes its own id, so that the output of one job can never pass for another's.
SCRIPT = 'sleep {delay}; echo "log of {job_id}"; printf "%s %s\\n" "$0" {job_id} >out.txt; exit {code}'


class Submitter(Person):
    def __init__(self, number: int, service: Service, ledger: Ledger, seed: int, stop: threading.Event) -> None:
        super().__init__(f"submitter-{number}", service, ledger, seed, stop)
        self._count = 0
        self._seed = seed
        self._arrays: list[int] = []
        self._mine: list[int] = []

    def act(self) -> None:
        if self._unfinished() >= MOST_UNFINISHED:
            self.stopping.wait(1)
        else:
            self.submit()
        if self._mine and self.random.random() < 0.15:
            self.kill(self.random.choice(self._mine[-20:]))
        if self._mine and self.random.random() < 0.1:
            self.reschedule(self.random.choice(self._mine[-20:]))

    def _unfinished(self) -> int:
        if not self._arrays:
            return 0
        asked = {"array_ids": self._arrays[-REMEMBERED:], "wait_s": 0}
        waited = self.insist(lambda client: client.post("/api/jobs/wait", asked, Waited))
        return waited.total - waited.ended

    def submit(self) -> None:
        """An array of short jobs, some of which fail by themselves. Its key makes the repeat of a request harmless."""
        self._count += 1
        key = f"{self.name}-{self._seed}-{self._count}"
        size = self.random.randint(1, 4)
        delays = [round(self.random.choice([0.0, 0.3, 1.0, 3.0]), 1) for _ in range(size)]
        codes = [3 if self.random.random() < 0.1 else 0 for _ in range(size)]
        place = f"{TOP}/jobs/{key}"
        spec = {
            "name": key,
            "executable": "sh",
            "arguments": ["-c", SCRIPT, key],
            "parameters": {"delay": delays, "code": codes},
            "output_sandbox": ["out.txt"],
            "output_data": [{"path": "out.txt", "lfn": f"{place}/{{index}}.txt", "se": "local"}],
            "memory_bytes": 100_000_000,
            "retries": {"site": 50, "data": 50, "delay_s": 1},
        }
        submitted = self.insist(lambda client: submitted_with(client, spec, key))
        array = submitted.arrays[0]
        with self.ledger.lock:
            for index, job_id in enumerate(array.ids):
                content = f"{key} {job_id}\n".encode()
                outputs = {f"{place}/{index}.txt": content}
                self.ledger.jobs[job_id] = ExpectedJob(fails=codes[index] != 0, outputs=outputs)
        self._arrays.append(array.array_id)
        self._mine.extend(array.ids)
        self.ledger.count("submit")

    def kill(self, job_id: int) -> None:
        outcome = self.insist(lambda client: client.post("/api/jobs/kill", {"job_ids": [job_id]}, Outcome))
        self.ledger.count("kill")
        if outcome.done or any("already killed" in refused.detail for refused in outcome.refused):
            with self.ledger.lock:
                self.ledger.jobs[job_id].killed = True

    def reschedule(self, job_id: int) -> None:
        outcome = self.insist(lambda client: client.post("/api/jobs/reschedule", {"job_ids": [job_id]}, Outcome))
        self.ledger.count("reschedule")
        for refused in outcome.refused:
            if refused.code not in ("transition-refused", "has-outputs"):
                self.ledger.surprise(f"job {job_id} was acknowledged and cannot be rescheduled: {refused.detail}")
        # A killed job may always be rescheduled; one that is refused is not killed any more, by an earlier try of ours.
        with self.ledger.lock:
            self.ledger.jobs[job_id].killed = False


def submitted_with(client: Client, spec: dict[str, Any], key: str) -> Submitted:
    """Submit one description; the key makes repeats harmless."""
    data = client.request("POST", "/api/jobs", msgspec.json.encode({"specs": [spec]}), headers={"idempotency-key": key})
    return msgspec.json.decode(data[1], type=Submitted)
