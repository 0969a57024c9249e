"""The pilot as one file: the sources of `spinor_pilot`, zipped with a line that makes Python run them (PEP 441)."""

import hashlib
import importlib.resources
import io
import os
import secrets
import zipfile
from importlib.resources.abc import Traversable
from pathlib import Path

NAME = "spinor-pilot.pyz"
_SHEBANG = b"#!/usr/bin/env python3\n"
_MAIN = b"from spinor_pilot.main import main\n\nraise SystemExit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # The oldest instant that a zip file knows.


def content(main: bytes = _MAIN) -> bytes:
    """The bundle's bytes: the same for the same sources, on every machine. `main` is what it runs."""
    files = {"__main__.py": main}
    for source in importlib.resources.files("spinor_pilot").iterdir():
        if source.name.endswith(".py"):
            files[f"spinor_pilot/{source.name}"] = _read(source)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, also when it is built elsewhere.
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return _SHEBANG + buffer.getvalue()


def build(target: Path) -> str:
    """Write the bundle to `target` in one step, executable; its SHA-256."""
    data = content()
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755), "wb") as file:
        file.write(data)
    hidden.replace(target)
    return hashlib.sha256(data).hexdigest()


def _read(source: Traversable) -> bytes:
    return source.read_bytes().replace(b"\r\n", b"\n")
