"""The operations data: one YAML document that says who and what there is, kept in revisions.

Nouns: document, fault, change, revision. Verbs: validate, diff, apply, roll back, show.
"""
