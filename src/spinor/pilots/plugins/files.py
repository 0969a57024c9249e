"""Files that options of computing elements name, and the script that starts a pilot where a plugin cannot."""

from pathlib import Path, PurePosixPath

from spinor.pilots.plugin import BadOptions, ElementSettings

OUTPUT_BYTES = 64 * 1024

# What a batch system runs: it may have lost the launch file's mode on the way. The pilot works in a directory of its
# own, so that the batch system brings nothing of it back but the pilot's words.
START_SCRIPT = b"""#!/bin/sh
export PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}"
umask 077
chmod 600 launch.json
mkdir -p work
exec "$1" -I -B "$2" launch.json --directory work
"""


def secret_file(element: ElementSettings, option: str, name: str) -> Path | None:
    """The file or directory of this name below the place of secrets, where operators put them; None without a name.

    No option can lead to any other file: whoever may write options would see it by sending it somewhere as a token.
    """
    if not name:
        return None
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise BadOptions(
            f"The option {option} of computing element {element.name!r} is {name!r}, and must name a file below "
            f"{element.secrets}: put it there on every worker, and give its name."
        )
    return element.secrets / name


def tail(text: bytes) -> str:
    return text[-OUTPUT_BYTES:].decode("utf-8", "replace")
