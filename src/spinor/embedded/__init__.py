"""What `spinor up` starts on one machine: PostgreSQL, a certificate authority, the server, the worker.

Nouns: layout (where things lie below the data directory), installation (PostgreSQL's programs), cluster (its data),
part (a process that is kept alive), state (what the supervisor wrote down). Verbs: up, down, status, examine.
"""
