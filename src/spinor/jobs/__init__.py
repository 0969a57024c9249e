"""Jobs: what users want computed, from the description to the registered output.

Nouns: job, array (one submission), task queue (jobs with equal requirements wait together), attempt (the fencing number
of one execution), lease (a pilot's hold on an attempt), sandbox (a small content-addressed tar), log.
Verbs for people: submit, kill, reschedule, search, summarise, show, explain, wait, read logs, put and get sandboxes.
Verbs for pilots: match, start, renew leases, append logs, finish. For chores: expire leases, sweep sandboxes.
"""
