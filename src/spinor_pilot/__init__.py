"""The pilot: it holds a slot of a computing element and runs payloads there for a Spinor server.

Standard library only, Python 3.9 or newer, Linux. It travels to worker nodes as one file (`spinor.pilots.bundle`).
"""

__version__ = "0.1.0"
