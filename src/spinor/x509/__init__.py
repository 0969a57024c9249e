"""Certificates of people and hosts: chains, RFC 3820 proxies, VOMS attributes, names, and what is wrong. Without state.

`trust` is the directory of authorities, `chain` verifies, `proxy` issues and delegates, `voms` reads, checks, makes
and fetches attribute certificates, `assertion` is the signature by which a client proves that it has the key.
`names` says which hosts a certificate is for, `tls` makes the contexts of clients and servers, and `diagnosis` tells
everything that is wrong with a host certificate.
"""
