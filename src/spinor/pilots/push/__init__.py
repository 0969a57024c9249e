"""Pilots for nodes that see no network: the `push` plugin's processes on the worker's own machine.

Such a process enrols as the pilot, takes jobs, packs them and all that they need into the file that another plugin
brings to a node, follows it there, and reports in its name. On the node `spinor_pilot.offline` runs the jobs.
"""
