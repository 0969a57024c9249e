"""The catalog: the one tree of names over all storages of a VO.

Nouns: directory, file (LFN, size, checksums, guid), replica (a file's bytes on a storage element), metadata key.
Verbs: `register_files`, `register_batch`, `make_directories`, `stat_files`, `list_directory`, `find_files`, `usage`,
`remove_files`, `move`, `set_metadata`, `show_metadata`, `declare_keys`.
"""
