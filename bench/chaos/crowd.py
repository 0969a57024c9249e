"""A crowd of tiny jobs: arrays of them, submitted as fast as they are worked on; some are killed or run again."""

import threading
from typing import Any

from bench.chaos.file_people import TOP
from bench.chaos.job_people import submitted_with
from bench.chaos.ledger import ExpectedJob, Ledger
from bench.chaos.people import Person
from bench.service import Service
from spinor.jobs.models import Outcome, Waited

CROWD = f"{TOP}/crowd"
ARRAY = 100
MOST_UNFINISHED = 1000  # Of each site, so that one that is cut off does not keep the other idle.
REMEMBERED = 30  # Arrays; what is older has ended, or is among the few that are run again.
# The output names the job, so that the output of one can never pass for another's.
SCRIPT = 'printf "%s %s\\n" "$0" {job_id} >out.txt; exit {code}'


class Quota:
    """How many jobs are still to be submitted, shared by all submitters."""

    def __init__(self, jobs: int) -> None:
        self.left = jobs
        self._lock = threading.Lock()

    def take(self, most: int) -> int:
        with self._lock:
            taken = min(most, self.left)
            self.left -= taken
            return taken

    def end(self) -> None:
        """Let nobody submit any more."""
        with self._lock:
            self.left = 0


class Crowd(Person):
    def __init__(
        self, site: str, service: Service, ledger: Ledger, seed: int, stop: threading.Event, quota: Quota
    ) -> None:
        super().__init__(f"crowd-{site.lower()}", service, ledger, seed, stop)
        self._site = site
        self._quota = quota
        self._count = 0
        self._seed = seed
        self._arrays: list[int] = []
        self._mine: list[int] = []

    def act(self) -> None:
        size = 0 if self._unfinished() >= MOST_UNFINISHED else self._quota.take(ARRAY)
        if size:
            self.submit(size)
        else:
            self.stopping.wait(1)
        if self._mine and self.random.random() < 0.2:
            self.command("kill", self.random.sample(self._mine[-1000:], min(5, len(self._mine))))
        if self._mine and self.random.random() < 0.1:
            self.command("reschedule", self.random.sample(self._mine[-1000:], min(5, len(self._mine))))

    def _unfinished(self) -> int:
        if not self._arrays:
            return 0
        asked = {"array_ids": self._arrays[-REMEMBERED:], "wait_s": 0}
        waited = self.insist(lambda client: client.post("/api/jobs/wait", asked, Waited))
        return waited.total - waited.ended

    def submit(self, size: int) -> None:
        self._count += 1
        key = f"{self.name}-{self._seed}-{self._count}"
        codes = [3 if self.random.random() < 0.02 else 0 for _ in range(size)]
        place = f"{CROWD}/{key}"
        spec: dict[str, Any] = {
            "name": key,
            "job_group": self.name,
            "sites": [self._site],
            "executable": "sh",
            "arguments": ["-c", SCRIPT, key],
            "parameters": {"code": codes},
            "output_data": [{"path": "out.txt", "lfn": f"{place}/{{index}}.txt", "se": "local"}],
            "memory_bytes": 50_000_000,
            "disk_bytes": 1_000_000,
            "retries": {"site": 100, "data": 100, "delay_s": 1},
        }
        submitted = self.insist(lambda client: submitted_with(client, spec, key))
        array = submitted.arrays[0]
        with self.ledger.lock:
            for index, job_id in enumerate(array.ids):
                outputs = {f"{place}/{index}.txt": f"{key} {job_id}\n".encode()}
                self.ledger.jobs[job_id] = ExpectedJob(fails=codes[index] != 0, outputs=outputs)
        self._arrays.append(array.array_id)
        self._mine.extend(array.ids)
        self.ledger.count("submit")

    def command(self, verb: str, job_ids: list[int]) -> None:
        asked = {"job_ids": job_ids}
        outcome = self.insist(lambda client: client.post(f"/api/jobs/{verb}", asked, Outcome))
        self.ledger.count(verb)
        with self.ledger.lock:
            for job_id in outcome.done_ids:
                self.ledger.jobs[job_id].killed = verb == "kill"
            for refused in outcome.refused:
                for job_id in refused.ids:
                    if verb == "kill" and "already killed" in refused.detail:
                        self.ledger.jobs[job_id].killed = True
                    elif verb == "reschedule":  # A killed job may always be rescheduled: it was, by an earlier try.
                        self.ledger.jobs[job_id].killed = False
