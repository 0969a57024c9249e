"""The errors that more than one room of jobs raises."""

from spinor.errors import Conflict, NotFound, SpinorError


class UnknownJob(NotFound):
    """There is no such job in your VO."""

    code = "unknown-job"


class StaleReport(Conflict):
    """This attempt is no longer the pilot's; stop its payload and report no more on it."""

    code = "stale-report"


class UnknownSandbox(NotFound):
    """There is no such sandbox of yours; upload it again (`PUT /api/sandboxes`)."""

    code = "unknown-sandbox"


class SubmittedTwice(Conflict):
    """The same submission is being stored by another request; ask again for its answer."""

    code, retry = "submitted-twice", True


# What a violated constraint means.
ERRORS: dict[str, type[SpinorError]] = {
    "array_sandbox_sandbox_id_fkey": UnknownSandbox,
    "output_sandbox_sandbox_id_fkey": UnknownSandbox,
}
