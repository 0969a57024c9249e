"""The chores of resources."""

from spinor.resources.status.chores import CHORES

__all__ = ["CHORES"]
