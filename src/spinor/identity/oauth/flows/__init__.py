"""Sign-ins that a person decides on in a browser: what programs may ask for, and the codes that they get for it.

`requests` reads and refuses what a program asks, `roles` says what a person can give it, `store` keeps codes.
"""
