"""Quotas: how much an owner may have, a tree may hold, a storage element may keep, or these together.

Verbs: `set_quotas`, `find_quotas`, `remove_quotas`. They are checked by whatever uses more (catalog/service/quotas.py).
"""
