"""Spinor from Python: `import spinor; grid = spinor.connect()`.

    grid.jobs, grid.files, grid.me    objects that a notebook shows as tables
    grid.submit(...)                  a Job, a JobArray or a JobSet
    grid.executor(...)                concurrent.futures over jobs

It speaks to the service by `spinor.client` alone. Reference: docs/reference/python.md.
"""

from spinor.api.commands import NotAllDone
from spinor.api.executor import Executor
from spinor.api.files import Files, FileSet
from spinor.api.functions import CannotGo
from spinor.api.grid import Grid, connect
from spinor.api.job import Job, JobFailed, Result
from spinor.api.jobs import Jobs
from spinor.api.receiving import FunctionFailed, RemoteTraceback
from spinor.api.sending import CallFuture
from spinor.api.sets import JobArray, JobSet
from spinor.api.values import CannotTravel
from spinor.api.watching import StillRunning

__all__ = [
    "CallFuture",
    "CannotGo",
    "CannotTravel",
    "Executor",
    "FileSet",
    "Files",
    "FunctionFailed",
    "Grid",
    "Job",
    "JobArray",
    "JobFailed",
    "JobSet",
    "Jobs",
    "NotAllDone",
    "RemoteTraceback",
    "Result",
    "StillRunning",
    "connect",
]
