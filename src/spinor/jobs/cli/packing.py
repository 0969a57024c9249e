"""Sandboxes: local files packed so that equal contents give equal archives, uploaded once, and unpacked safely."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spinor.errors import BadInput, BodyTooLarge, SpinorError
from spinor.jobs.cli.descriptions import NoSuchFile
from spinor.jobs.models import JobSpec
from spinor.jobs.sandboxes.client import upload

if TYPE_CHECKING:
    from spinor.client import Client

MAX_BYTES = 1024**3  # It is packed in memory. The VO's own limit is told by the server before anything is sent.


def with_sandboxes(client: "Client", described: Sequence[tuple[JobSpec, Path]]) -> list[JobSpec]:
    """The descriptions as the server wants them: with ids of uploaded sandboxes in place of local paths."""
    # All are packed before the first is sent, so that a missing file stops everything.
    packed = [_packed(spec.input_sandbox, folder) for spec, folder in described]
    uploaded: dict[bytes, int] = {}
    specs = []
    for (spec, _), archive in zip(described, packed, strict=True):
        if archive is None:
            specs.append(spec)
            continue
        if archive not in uploaded:
            uploaded[archive] = upload(client, archive).sandbox_id
        ids = [*spec.input_sandboxes, uploaded[archive]]
        specs.append(msgspec.structs.replace(spec, input_sandbox=[], input_sandboxes=ids))
    return specs


def packed_sizes(described: Sequence[tuple[JobSpec, Path]]) -> list[int]:
    """Bytes of each description's own archive; 0 for none."""
    return [len(_packed(spec.input_sandbox, folder) or b"") for spec, folder in described]


def _packed(paths: Sequence[str], folder: Path) -> bytes | None:
    """A tar archive: files by their own name, directories with what is below them."""
    if not paths:
        return None
    buffer = io.BytesIO()
    names: dict[str, str] = {}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for text in paths:
            path = folder / Path(text).expanduser()
            if not path.exists():
                raise NoSuchFile(f"input_sandbox: there is no file {str(path)!r}.", field="input_sandbox")
            name = path.resolve().name if path.name in {"", ".", ".."} else path.name
            if names.setdefault(name, text) != text:
                raise BadInput(f"input_sandbox: {names[name]!r} and {text!r} would both be {name!r}; rename one.")
            for each in [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]:
                _add(tar, each, name if each == path else f"{name}/{each.relative_to(path)}")
            if buffer.tell() > MAX_BYTES:
                raise BodyTooLarge(
                    f"input_sandbox: it is larger than {MAX_BYTES // 1024**2} MiB; put large files on a storage "
                    "element (`spinor file put`) and name them in input_data.",
                    field="input_sandbox",
                )
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """Whose it was and when it changed is left out: it would make equal contents differ."""
    info = tar.gettarinfo(path, name)
    if not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
        raise BadInput(f"input_sandbox: {str(path)!r} is neither a file nor a directory.", field="input_sandbox")
    if info.islnk():
        # A second name of a file that is in the archive already: to the archive it is a file of its own.
        info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    if info.isreg():
        with path.open("rb") as file:
            tar.addfile(info, file)
    else:
        tar.addfile(info)


def unpack(archive: bytes, folder: Path) -> list[str]:
    """The files of the archive, unpacked so that none of them lands outside of the folder or is anything but data."""
    if not hasattr(tarfile, "data_filter"):
        raise SpinorError("This Python cannot unpack safely; take Python 3.11.4 or newer.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            tar.extractall(folder, filter="data")
            return [member.name for member in tar if member.isfile()]
    except tarfile.TarError as error:
        raise SpinorError(f"The output sandbox cannot be unpacked safely: {error}") from error
