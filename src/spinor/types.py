"""The field's words as types. One spelling in SQL, Python, JSON and on the command line."""

from typing import NewType

LFN = NewType("LFN", str)  # Logical file name: /<vo>/..., at most 4,096 bytes of UTF-8.
PFN = NewType("PFN", str)  # Physical file name: a URL, or a path below a storage element's root.
JobID = NewType("JobID", int)
ArrayID = NewType("ArrayID", int)
PilotID = NewType("PilotID", int)
SEName = NewType("SEName", str)
CEName = NewType("CEName", str)
VOName = NewType("VOName", str)
Bytes = NewType("Bytes", int)
Seconds = NewType("Seconds", float)
