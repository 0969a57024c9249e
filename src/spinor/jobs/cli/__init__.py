"""`spinor job`: submit, watch and control jobs."""

import click

from spinor.jobs.cli import control, looking, output, peeking, submission, using


@click.group()
def job() -> None:
    """Submit, watch and control jobs.

    A first one: spinor job submit -- echo hello
    """


for command in (
    submission.submit,
    looking.list_jobs,
    looking.show,
    looking.summary,
    looking.explain,
    output.log,
    output.output,
    peeking.peek,
    using.usage,
    using.attempts,
    control.wait,
    control.kill,
    control.reschedule,
):
    job.add_command(command)
