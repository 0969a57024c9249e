"""Grid certificates: chains, RFC 3820 proxies, VOMS attributes, and signing in with them. A library without state.

`trust` is the directory of authorities, `chain` verifies, `proxy` issues and delegates, `voms` reads, checks, makes
and fetches attribute certificates, `assertion` is the signature by which a client proves that it has the key.
"""
