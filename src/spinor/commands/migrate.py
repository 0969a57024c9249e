"""`spinor migrate`."""

import click


@click.command()
def migrate() -> None:
    """Bring the database of SPINOR_DATABASE_URL to this version's tables. Safe at any time, also twice at once."""
    from spinor.migrations import migrate as apply_missing
    from spinor.settings import Settings
    from spinor.terminal import say

    applied = apply_missing(Settings.from_environment().database_url)
    say(f"Applied: {', '.join(applied)}." if applied else "The database is up to date.")
