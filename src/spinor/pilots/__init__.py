"""Pilots: small programs that hold a slot of a computing element and run jobs there.

Nouns: pilot, offer (what its slot has left), launch (what a computing element needs to start one), computing-element
plugin. Verbs: `enrol`, `match`, `beat`, `say_goodbye` for pilots; `search_pilots`, `pilot`, `pilot_log`,
`cancel_pilots` for people; `plan_pilots`, `record_submissions`, `follow_pilots` for the factory's chores.
"""
