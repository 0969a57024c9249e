"""The entry points of a service's processes: what systemd, a container or `spinor up` starts."""
