"""Where work can run and where files can lie.

Nouns: site, computing element (CE), storage element (SE). Verbs: list those that a VO may use, find one by name, bring
them in line with the operations data.
"""
