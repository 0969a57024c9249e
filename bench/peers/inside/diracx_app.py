"""DiracX's application as its own factory makes it, but for two things that the measurement needs.

A call may bring a thousand jobs: DiracX's limit of twenty is a constant that no setting reaches. And no S3 server has
to be there at the start, since no job here has a sandbox.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from diracx.core.settings import SandboxStoreSettings
from diracx.logic.jobs import submission
from diracx.routers.factory import create_app

MAX_JOBS_PER_CALL = 1000


@contextlib.asynccontextmanager
async def _no_bucket(_: SandboxStoreSettings) -> AsyncIterator[None]:
    yield


def app() -> Any:
    submission.MAX_PARAMETRIC_JOBS = MAX_JOBS_PER_CALL
    SandboxStoreSettings.lifetime_function = _no_bucket
    return create_app()
