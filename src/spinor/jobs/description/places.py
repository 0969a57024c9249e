"""The parts of a description that point elsewhere: LFNs, storage elements, other jobs, people."""

import re
from math import isfinite
from urllib.parse import urlsplit

import msgspec

from spinor.jobs.description.faults import fault, shown
from spinor.jobs.models import After, Notify, OutputData

MAX_METADATA = 100
_MAX_URL = 2048
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PATTERN = re.compile(r"[*?\[]")
# The addresses that mail servers take without quotes: RFC 5321's dot-string at a domain name.
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


def lfn_of(text: str) -> str:
    """`LFN:/astro/a`, as DIRAC writes it, is /astro/a."""
    return text[4:] if text[:4].lower() == "lfn:" else text


def is_pattern(path: str) -> bool:
    return _PATTERN.search(path) is not None


def output(given: OutputData, n: int) -> OutputData:
    """`se` is the first of all places, and no place is named twice."""
    field = f"output_data[{n}]"
    elements = list(dict.fromkeys(se for se in [given.se, *given.ses] if se))
    if not elements:
        raise fault(f"{field}.se", "is needed; name a storage element (`spinor se list`), or several in `ses`")
    lfn = lfn_of(given.lfn)
    if not lfn.startswith(("/", "{")):
        raise fault(f"{field}.lfn", f"{shown(given.lfn)} is no LFN; it begins with / and the VO's name")
    if is_pattern(given.path):
        # A pattern's files keep their names, so that what is given for them is the directory, with or without a slash.
        lfn = lfn.rstrip("/") + "/"
    for word in (*elements, *given.failover):
        if not word or _CONTROL.search(word):
            raise fault(f"{field}.ses" if word in elements else f"{field}.failover", f"{shown(word)} is not a name")
    if len(given.metadata) > MAX_METADATA:
        raise fault(f"{field}.metadata", f"has {len(given.metadata)} keys; {MAX_METADATA} are the most")
    for name, value in given.metadata.items():
        if not name.strip() or _CONTROL.search(name):
            raise fault(f"{field}.metadata", f"{shown(name)} is not a name")
        if isinstance(value, float) and not isfinite(value):
            raise fault(f"{field}.metadata.{name}", f"is {value}; give a number that is one")
    failover = [se for se in dict.fromkeys(given.failover) if se not in elements]
    return msgspec.structs.replace(given, lfn=lfn, se=elements[0], ses=elements[1:], failover=failover)


def predecessor(given: After, n: int) -> After:
    field = f"after[{n}]"
    named = [name for name in ("job_id", "array_id", "name") if getattr(given, name) not in (None, "")]
    if len(named) != 1:
        names = f"both {' and '.join(named)}" if named else "nothing"
        raise fault(field, f"names {names}; give exactly one of job_id, array_id and name")
    for name in ("job_id", "array_id"):
        value = getattr(given, name)
        if value is not None and not 1 <= value < 2**63:
            raise fault(f"{field}.{name}", f"is {value}, which is no id")
    if given.each and given.job_id is not None:
        raise fault(f"{field}.each", "pairs the jobs of two arrays, and job_id names one job; give array_id or name")
    return given


def notice(given: Notify, n: int) -> Notify:
    field = f"notify[{n}]"
    if not given.on:
        raise fault(f"{field}.on", "is empty; name done, failed or ended")
    if not given.email and not given.webhook:
        raise fault(field, "names nobody; give email, webhook or both")
    if given.email and not _is_address(given.email):
        raise fault(f"{field}.email", f"{shown(given.email)} is not one mail address, such as name@example.org")
    if given.webhook:
        _check_webhook(given.webhook, f"{field}.webhook")
    return msgspec.structs.replace(given, on=list(dict.fromkeys(given.on)))


def _is_address(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    return bool(
        at
        and len(local) <= 64
        and len(domain) <= 253
        and "." in domain
        and _LOCAL_PART.fullmatch(local)
        and _DOMAIN.fullmatch(domain)
    )


def _check_webhook(url: str, field: str) -> None:
    """The URL itself is not repeated in the fault: what follows its host may be a secret."""
    if len(url) > _MAX_URL:
        raise fault(field, f"has {len(url):,} characters; {_MAX_URL:,} are the most")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise fault(field, "has a space, a backslash or a character outside ASCII in it; write it as %xx")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not url.lower().startswith("https://") or not host or port == 0:
        raise fault(field, "is not an https address, such as https://example.org/hook")
    if parts.username is not None or parts.password is not None:
        raise fault(field, "has a user or a password in it; put what proves the sender into the path or the query")
    if parts.fragment:
        raise fault(field, "has a # part, which is never sent; leave it out")
