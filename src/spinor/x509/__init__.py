"""Certificates of hosts and people: names, trust, chains, proxies, VOMS attributes, and what is wrong with one."""
