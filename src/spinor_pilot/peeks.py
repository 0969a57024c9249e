"""Looks into the directory of a running payload, which somebody asks for by the answer to a heartbeat."""

from __future__ import annotations

import base64
import errno
import os
import stat
from typing import Any, Optional

from spinor_pilot import beneath

MOST_BYTES = 1 << 20
MOST_ENTRIES = 1000
_CODES = {
    errno.ENOENT: "no-such-file", errno.ENOTDIR: "no-such-file", errno.ELOOP: "outside", errno.EXDEV: "outside",
    errno.EINVAL: "not-a-file", errno.ENXIO: "not-a-file",
}  # fmt: skip


def answer(top: Optional[str], asked: dict[str, Any]) -> dict[str, Any]:
    """The body to send back. `top` is the job's directory; None when the pilot does not run this attempt."""
    head = {"peek_id": asked["peek_id"], "attempt": asked["attempt"]}
    if top is None:
        return {**head, "kind": "refused", "code": "not-here", "detail": "the pilot does not run this attempt now"}
    path = str(asked["path"])
    try:
        return {**head, **_look(top, path, asked)}
    except (OSError, ValueError) as error:
        code = _CODES.get(getattr(error, "errno", None) or 0, "unreadable")
        if code == "no-such-file" and _has_link(top, path):
            code = "outside"
        details = {
            "no-such-file": f"there is no {path!r} in the job's directory",
            "outside": f"{path!r} is a link, or leads out of the job's directory",
            "not-a-file": f"{path!r} is neither a file nor a directory",
        }
        return {**head, "kind": "refused", "code": code, "detail": details.get(code, str(error))}


def _look(top: str, path: str, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        number = beneath.open_directory(top, path)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
    else:
        try:
            return _listing(number)
        finally:
            os.close(number)
    with beneath.open_file(top, path) as file:
        size = os.fstat(file.fileno()).st_size
        most = max(0, min(int(asked["size_bytes"]), MOST_BYTES))
        position = asked.get("position")
        begin = max(0, size - most) if position is None else min(int(position), size)
        file.seek(begin)
        data = base64.b64encode(file.read(most)).decode("ascii")
        return {"kind": "file", "size_bytes": size, "position": begin, "data": data}


def _listing(number: int) -> dict[str, Any]:
    names = sorted(os.listdir(number))
    entries = []
    for name in names[:MOST_ENTRIES]:
        try:
            status = os.stat(name, dir_fd=number, follow_symlinks=False)
        except OSError:
            continue  # Gone meanwhile.
        entries.append({
            "name": os.fsencode(name).decode("utf-8", "replace"), "kind": _kind(status.st_mode),
            "size_bytes": status.st_size, "modified_at": status.st_mtime,
        })  # fmt: skip
    return {"kind": "directory", "truncated": len(names) > MOST_ENTRIES, "entries": entries}


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"


def _has_link(top: str, path: str) -> bool:
    """Whether a link on the way is why nothing was found."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return any(os.path.islink(os.path.join(top, *parts[: depth + 1])) for depth in range(len(parts)))
