"""DIRAC's commands for jobs, pilots and sites, by their own names and with their own options and output.

They are programs over `spinor.client`, as the verbs of `spinor job` are. docs/reference/dirac-commands.md lists them.
"""
