"""Which plugins operations data may name: ours, and those that other distributions bring as entry points.

Names are enough here. The plugins themselves belong to systems above this one, and nothing of them is imported.
"""

from importlib.metadata import entry_points

OUR_STORAGE_PLUGINS = ("file",)
OUR_COMPUTING_PLUGINS = ("arc", "htcondor", "kubernetes", "local", "push", "slurm", "slurmrestd", "ssh")
STORAGE_ENTRY_POINTS = "spinor.storage"
COMPUTING_ENTRY_POINTS = "spinor.computing"


def storage_plugins() -> list[str]:
    return sorted({*OUR_STORAGE_PLUGINS, *entry_points(group=STORAGE_ENTRY_POINTS).names})


def computing_plugins() -> list[str]:
    return sorted({*OUR_COMPUTING_PLUGINS, *entry_points(group=COMPUTING_ENTRY_POINTS).names})
