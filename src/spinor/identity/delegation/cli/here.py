"""`spinor proxy init`, `info` and `destroy`: files of this machine; no service is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from cryptography import x509

    from spinor.x509.proxy import Credential
    from spinor.x509.trust import TrustStore

FILE = click.Path(path_type=Path, dir_okay=False)
cert_option = click.option("--cert", type=FILE, help="Your certificate (PEM or PKCS#12); else ~/.globus/usercert.pem.")
key_option = click.option("--key", type=FILE, help="Your key; else ~/.globus/userkey.pem.")
out_option = click.option("--out", type=FILE, help="Where to write it, instead of the usual place.")
hours_option = click.option("--hours", type=click.FloatRange(1 / 60, 24 * 366), default=12.0, show_default=True)
voms_option = click.option(
    "--voms", multiple=True, metavar="VO[:FQAN]", help="VOMS attributes: astro, or astro:/astro/Role=production."
)


@click.command()
@hours_option
@click.option("--limited", is_flag=True, help="Make one that reads and writes data, and starts nothing.")
@voms_option
@cert_option
@key_option
@click.option(
    "--vomses", type=click.Path(path_type=Path), help="The vomses file; else $X509_VOMSES, ~/.voms/vomses, /etc/vomses."
)
@out_option
def init(
    hours: float,
    limited: bool,
    voms: tuple[str, ...],
    cert: Path | None,
    key: Path | None,
    vomses: Path | None,
    out: Path | None,
) -> None:
    """Make a proxy from your certificate."""
    from datetime import UTC, datetime, timedelta

    from spinor.identity.delegation.client import find_certificate
    from spinor.x509.proxy import make_proxy

    own = find_certificate(cert, key)
    lifetime, now = timedelta(hours=hours), datetime.now(UTC)
    extensions = _attributes(own, voms, vomses, lifetime) if voms else []
    made = make_proxy(own, lifetime=lifetime, limited=limited, extensions=extensions, now=now)
    write(made, out, now)


def write(made: Credential, out: Path | None, now: datetime) -> None:
    """Put a proxy file in place, and say so."""
    from spinor import terminal
    from spinor.x509.proxy import proxy_path, write_credential

    path = out or proxy_path()
    write_credential(path, made)
    left = int((made.not_after - now).total_seconds())
    length = f"{left // 3600} h {left // 60 % 60} min"
    terminal.say(f"A proxy is in {path}, until {made.not_after:%Y-%m-%d %H:%M} UTC ({length}).")


def _attributes(
    own: Credential, voms: Sequence[str], vomses: Path | None, lifetime: timedelta
) -> list[x509.Extension[x509.UnrecognizedExtension]]:
    from spinor.errors import BadInput
    from spinor.identity.delegation.client import asked_attributes
    from spinor.x509.refusals import VomsServerUnreachable
    from spinor.x509.voms import read_vomses, request_attributes, with_attributes

    asked = asked_attributes(voms)
    assert asked is not None
    vo = asked.vo or asked.fqans[0].split("/")[1]
    places = [vomses] if vomses else _usual_vomses()
    known = [server for place in places for server in read_vomses(place)]
    servers = [each for each in known if vo in (each.alias, each.vo)]
    if not servers:
        looked = ", ".join(map(str, places)) or "none was found"
        raise BadInput(f"No vomses file names a server of VO {vo!r} (looked into: {looked}); give one with --vomses.")
    refused: VomsServerUnreachable | None = None
    for server in servers:
        try:
            return [with_attributes(request_attributes(server, own, asked.fqans, lifetime, _trust()))]
        except VomsServerUnreachable as error:
            refused = error
    assert refused is not None
    raise refused


def _usual_vomses() -> list[Path]:
    import os

    given = os.environ.get("X509_VOMSES") or os.environ.get("VOMS_USERCONF")
    places = [Path(given)] if given else [Path.home() / ".voms" / "vomses", Path("/etc/vomses")]
    return [place for place in places if place.exists()]


def _certificates_dir() -> Path:
    import os

    return Path(os.environ.get("X509_CERT_DIR") or "/etc/grid-security/certificates")


def _trust() -> TrustStore:
    from spinor.x509.trust import TrustStore

    return TrustStore(_certificates_dir())


@click.command()
@click.argument("file", type=FILE, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the model as JSON.")
def info(file: Path | None, as_json: bool) -> None:
    """Show what is in a proxy file: whose it is, its kind, how long it lasts, its VO and attributes."""
    from datetime import UTC, datetime

    from spinor import terminal
    from spinor.errors import NotFound
    from spinor.identity.delegation.describing import described
    from spinor.x509.proxy import proxy_path, read_credential

    path = file or proxy_path()
    if not path.exists():
        raise NotFound(
            f"There is no proxy at {path}; make one with `spinor proxy init`, or get one with `spinor proxy new`."
        )
    found = described(read_credential(path), path, _certificates_dir(), datetime.now(UTC))
    terminal.show_one(found, as_json=as_json)
    if found.timeleft_s == 0:
        raise SystemExit(1)


@click.command()
@click.argument("file", type=FILE, required=False)
def destroy(file: Path | None) -> None:
    """Overwrite and remove a proxy file. What was delegated from it is not undone; see `spinor proxy remove`."""
    import os
    import stat

    from spinor import terminal
    from spinor.credentials import UnsafeFile
    from spinor.x509.proxy import proxy_path

    path = file or proxy_path()
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "wb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
            raise UnsafeFile(f"{path} is not a file of yours; it stays as it is.")
        opened.write(bytes(status.st_size))
        opened.flush()
        os.fsync(opened.fileno())
    path.unlink()
    terminal.say(f"{path} is removed.")
