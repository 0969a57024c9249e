"""Certificates at the edges: signing in with one, proxies that are stored and given, and the online CA.

Private keys do not travel upwards: whoever receives a delegation makes the key. What the database holds of a key is
sealed, and the online CA's own key is a file. Every proxy and certificate that is given has a line in the audit log.
"""
