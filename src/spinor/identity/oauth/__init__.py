"""The authorization server: how a proven identity becomes tokens.

`endpoint` reads forms and writes RFC 6749 answers, `clients` knows who may ask, `grants` has one file for each way to a
token, `routes` binds them to addresses.
"""
