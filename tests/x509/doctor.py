"""`spinor doctor cert` as a test calls it."""

from click.testing import CliRunner, Result

from spinor.cli import report, root
from spinor.errors import SpinorError


def doctor(*words: str) -> tuple[int, str]:
    """As the root command runs it, with its exit codes."""
    done: Result = CliRunner().invoke(root, ["doctor", "cert", *words])
    if isinstance(done.exception, SpinorError):
        return report(done.exception), done.exception.message
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output
