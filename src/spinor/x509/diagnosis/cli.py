"""`spinor doctor cert`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spinor.x509.diagnosis.report import Report

FAULTS_FOUND = 1


@click.command()
@click.argument("what", metavar="[FILE|HOST[:PORT]]", required=False)
@click.option("--name", help="The name that clients ask for. Else HOST itself; for a FILE, names are not compared.")
@click.option("--alias", "is_alias", is_flag=True, help="The name is an alias: look at every address behind it.")
@click.option(
    "--ca",
    type=click.Path(exists=True, path_type=Path),
    help="The file or directory (as IGTF's) of trusted CAs. "
    "Else $X509_CERT_DIR, /etc/grid-security/certificates, or the system's.",
)
@click.option(
    "--crl",
    type=click.Choice(["required", "if-present", "ignore"]),
    default="if-present",
    show_default=True,
    help="What revocation lists are to the check.",
)
@click.option("--key", type=click.Path(path_type=Path), help="The private key that goes with FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def cert(
    what: str | None, name: str | None, is_alias: bool, ca: Path | None, crl: str, key: Path | None, as_json: bool
) -> None:
    """Say what is wrong with a host certificate, by which rule, and the remedy.

    Of a host, the certificates that it sends are looked at; nothing else is asked of it. Without an argument, it is the
    server that your commands talk to. Exits 1 when there is a fault, 3 when there is no such file or the host does not
    answer. Warnings do not change the exit code.
    """
    import warnings

    from cryptography.utils import CryptographyDeprecationWarning

    from spinor.x509.diagnosis.report import Wishes, report_on_file, reports_on_host
    from spinor.x509.trust import CRLPolicy

    # Some CAs that every system trusts were made carelessly; that is not what was asked for.
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    if what is None:
        what, ca = _own_server(ca)
    wishes = Wishes(name=name, is_alias=is_alias, ca=ca, crl=CRLPolicy(crl.replace("-", "_")), key=key)
    if _is_file(what):
        reports = [report_on_file(Path(what), wishes)]
    elif key is not None:
        raise click.UsageError("--key goes with a FILE: a host does not show its key.")
    else:
        reports = reports_on_host(*_host_and_port(what), wishes)
    for report in reports:
        _print(report, as_json=as_json)
    if any(report.faults for report in reports):
        sys.exit(FAULTS_FOUND)


def _own_server(ca: Path | None) -> tuple[str, Path | None]:
    from spinor import credentials

    url, server = credentials.current_server()
    return url, ca or (Path(server.ca_file) if server.ca_file else None)


def _is_file(what: str) -> bool:
    """A path is a file even when there is none; a word is one when it is there."""
    is_path = ("/" in what and "://" not in what) or what.endswith((".pem", ".crt", ".cer", ".der"))
    return is_path or Path(what).is_file()


def _host_and_port(what: str) -> tuple[str, int]:
    import urllib.parse

    parts = urllib.parse.urlsplit(what if "://" in what else f"//{what}")
    # An IPv6 address may be written without brackets where no port follows.
    if "://" not in what and what.count(":") > 1 and "[" not in what:
        return what, 443
    try:
        host, port = parts.hostname, parts.port or 443
    except ValueError:
        host, port = None, 0
    if not host:
        raise click.BadParameter(f"{what!r} is neither a file nor HOST[:PORT].", param_hint="FILE|HOST[:PORT]")
    return host, port


def _print(report: "Report", *, as_json: bool) -> None:
    import msgspec

    if as_json:
        click.echo(msgspec.json.encode(report).decode())
        return
    rows = {
        "certificate": report.subject,
        "names": ", ".join(report.names) or "none",
        "issuer": report.issuer,
        "valid": f"{report.not_before:%Y-%m-%d %H:%M} to {report.not_after:%Y-%m-%d %H:%M} UTC",
        "key": report.key,
        "trusted CAs": report.trust or "none known, so its issuer was not judged; name them with --ca",
    }
    click.echo(report.source + (f", asked for as {report.name}" if report.name else ""))
    for title, value in rows.items():
        click.echo(f"  {title:<11}  {value}")
    for each in report.findings:
        click.echo(f"{each.severity.upper():<7}  {each.code}: {each.sentence}")
        if each.subject != report.subject:
            click.echo(f"         of:     {each.subject}")
        click.echo(f"         rule:   {each.rule}")
        click.echo(f"         remedy: {each.remedy}")
    for verdict in report.verdicts:
        verb = {True: "accepts it", False: "refuses it", None: "could not tell"}[verdict.accepts]
        click.echo(f"{verdict.by} {verb}{f': {verdict.says}' if verdict.says else ''}.")
    warnings = len(report.findings) - len(report.faults)
    click.echo(f"{_count(len(report.faults), 'fault')}, {_count(warnings, 'warning')}")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
