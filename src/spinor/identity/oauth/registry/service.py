"""The verbs that bring clients and capability rules in line with the operations data."""

from spinor.identity.oauth.registry.store import sync_capabilities, sync_clients

__all__ = ["sync_capabilities", "sync_clients"]
