"""A job that is followed from its start to its end: its state, what it writes, and Ctrl-C."""

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from spinor.terminal import say

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import Job

_QUIET = frozenset({"submitting", "received"})
_AT_WORK = frozenset({"matched", "running", "completing"})


def follow(client: "Client", job_id: int) -> int | None:
    """The exit code of the job, once it has ended; None when the person has left it running."""
    is_unread = threading.Event()
    copying = [
        threading.Thread(target=_copy, args=(client, job_id, stream, is_unread), name=stream, daemon=True)
        for stream in ("stdout", "stderr")
    ]
    while True:
        try:
            for thread in copying:
                if thread.ident is None:
                    thread.start()
            _until_ended(client, job_id)
            for thread in copying:
                while thread.is_alive():  # A join without a timeout would not be interrupted.
                    thread.join(0.5)
            return _told(client, job_id)
        except KeyboardInterrupt:
            if is_unread.is_set():
                # As a command that runs here: it ends when nobody reads what it writes (`| head`).
                client.close()
                _kill(client, job_id, "nobody reads its output any more")
                return 128 + signal.SIGPIPE
            if _is_left(client, job_id):
                return None


def _copy(client: "Client", job_id: int, stream: str, is_unread: threading.Event) -> None:
    from spinor.errors import SpinorError
    from spinor.jobs.cli.output import Writer
    from spinor.jobs.client import follow_log

    shown = 0
    write = Writer(to_stderr=stream == "stderr")
    with client.beside() as beside:
        try:
            for piece in follow_log(beside, job_id, stream):
                if stream == "stdout" and shown and piece.attempt != shown:
                    say(f"--- attempt {piece.attempt}")
                shown = piece.attempt
                write(piece.data)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # So that nothing fails at exit.
            is_unread.set()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # Out of whatever it waits for.
        except SpinorError as error:
            say(f"spinor: the {stream} of job {job_id} cannot be followed any more: {error.message}")


def _until_ended(client: "Client", job_id: int) -> None:
    from spinor.jobs.client import waiting
    from spinor.jobs.models import Job, JobIds

    last = ""
    for waited in waiting(client, JobIds(job_ids=[job_id])):
        status = next((name for name, count in waited.counts.items() if count), "")
        if last in _AT_WORK and status not in _AT_WORK and not waited.all_ended:
            # The attempt has ended and the job has not: that is news, whoever listens.
            say(f"job {job_id}: {status}, {_reason(client.get(f'/api/jobs/{job_id}', Job))}")
        elif sys.stderr.isatty() and status != last and status not in _QUIET and not waited.all_ended:
            say(f"job {job_id}: {status}")
        last = status


def _told(client: "Client", job_id: int) -> int:
    from spinor.jobs.models import Explanation, Job
    from spinor.terminal import printable

    job = client.get(f"/api/jobs/{job_id}", Job)
    if job.status == "done":
        return 0
    if job.exit_code:
        # Its own words are on the screen already; what is said here is what they do not say.
        say(f"job {job_id} {job.status}: {_reason(job)}")
        return job.exit_code
    for sentence in client.get(f"/api/jobs/{job_id}/explain", Explanation).sentences:
        say(printable(sentence))
    return 1


def _reason(job: "Job") -> str:
    from spinor.terminal import printable

    return printable(job.minor_status or f"exit code {job.exit_code}")


def _is_left(client: "Client", job_id: int) -> bool:
    """After Ctrl-C: whether the job goes on without us. Killed and followed to its end, it is not left."""
    answer = "k"  # Where nobody can answer it ends, as a command that runs here would.
    try:
        client.close()  # In the middle of an answer: the connection is of no use any more.
        if sys.stdin.isatty() and sys.stderr.isatty():
            click.echo(err=True)
            answer = click.prompt(
                f"Job {job_id}: [k]ill it, [d]etach (it goes on), or [c]ontinue to follow it",
                type=click.Choice(["k", "d", "c"]), default="c", show_choices=False, err=True,
            )  # fmt: skip
    except (click.Abort, KeyboardInterrupt):  # Ctrl-C again, before the question or at it.
        client.close()
    if answer == "d":
        say(f"It goes on: spinor job log -f {job_id}")
        return True
    if answer == "k":
        say(f"Killing job {job_id}.")
        _kill(client, job_id, "interrupted at the terminal")
    return False


def _kill(client: "Client", job_id: int, reason: str) -> None:
    from spinor.errors import SpinorError
    from spinor.jobs.models import CommandJobs

    with suppress(SpinorError):  # It may have ended meanwhile; how it ended is told in any case.
        client.post("/api/jobs/kill", CommandJobs(job_ids=[job_id], reason=reason))
