"""Replicas one by one: where else a file's bytes are, and what is known of them.

Verbs: `add_replicas`, `remove_replicas`, `set_replica_status`, `rehost_replicas`, `set_file_status`, `fill_checksums`,
`existing`, `lfns_of_guids`.
"""
