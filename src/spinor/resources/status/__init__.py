"""Whether sites and elements may be used: active, degraded, probing, draining or banned, with reason and history.

Verbs: say what holds now, change it, end what was meant for a time only, note how a probe went.
"""
