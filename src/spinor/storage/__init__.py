"""Storage: where bytes lie, and how they come and go.

Nouns: storage plugin, place (where new bytes are to go), replica address (where known bytes are).
Verbs: `replicas`, `places`; on the client's side `fetch` and `store`.
"""
