"""What plugins of batch systems that transfer files by themselves share: the script that starts a pilot, and more."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from spinor.pilots.plugin import ElementSettings
from spinor.pilots.plugins.options import wrong

OUTPUT_BYTES = 64 * 1024

# What a batch system runs: it may have lost the launch file's mode on the way. The pilot works in a directory of its
# own, so that the batch system brings nothing of it back but the pilot's words.
PREPARE = b"""#!/bin/sh
export PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}"
umask 077
chmod 600 launch.json
mkdir -p work
"""
START = b'"$1" -I -B "$2" launch.json --directory work'
START_SCRIPT = PREPARE + b"exec " + START + b"\n"


def secret_directory(element: ElementSettings, option: str, name: str) -> Path:
    """The directory of this name below the service's secrets for elements, which only its owner may read."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise wrong(element, f"{option} must be the plain name of a directory in secrets/computing, not {name!r}")
    path = element.secrets / name
    if not path.is_dir() or path.stat().st_mode & 0o077:
        raise wrong(element, f"{option}: there is no directory {path}, or others may look into it (chmod 700)")
    return path


def tail(text: bytes) -> str:
    return text[-OUTPUT_BYTES:].decode("utf-8", "replace")


async def together(*calls: Coroutine[Any, Any, Any], return_exceptions: bool = False) -> list[Any]:
    """Like asyncio.gather, but when it is cut off, or a call fails, none of the calls goes on behind its back."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks, return_exceptions=return_exceptions)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
