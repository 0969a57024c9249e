"""Spinor in a notebook.

    %load_ext spinor          the magics: %login %jobs %%job %logs %find %get ...
    grid = connect()          the objects behind them: grid.me, grid.jobs, grid.files

It speaks to the service by `spinor.client` alone, and signs in with the token that a notebook hub has lent.
"""

from spinor.notebook.grid import Grid, connect

__all__ = ["Grid", "connect"]
