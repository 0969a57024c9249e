"""`spinor pilot`, and what pilots add to `spinor site` and `spinor ce`."""

from spinor.pilots.cli.pilots import pilot
from spinor.pilots.cli.sites import ce, site

__all__ = ["ce", "pilot", "site"]
