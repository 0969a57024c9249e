"""Who people are and how they prove it.

Nouns: user, VO, group, membership, access token, refresh token, signing key. Verbs: sign in, refresh, revoke, verify,
find the caller of a request, mint a pilot's token, bring users and groups in line with the operations data.
"""
