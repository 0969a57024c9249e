"""Repairs: what `spinor file fsck` asks of the server, and what it has changed where it is still as a report says.

Verbs: `replicas_on` and `removals_on` (the catalog's side of a comparison, as streams), `unnamed`, `queue_removals`,
`cancel_removals`, and `make`: changes of files and replicas.
"""
