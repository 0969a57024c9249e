"""Who may do what: owners, groups, modes and access control lists (ACLs) of files and directories.

Verbs: `show_access`, `change_access`; `prepare_change` and `change_slice` for work in slices.
"""
