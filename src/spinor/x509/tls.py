"""The TLS contexts of Spinor's processes: strict about names, and made anew when their files have changed.

A client's context comes from `client_context` alone, so that no client can forget a rule. Standard library only, since
every command of the command line starts with it.
"""

import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spinor.errors import SpinorError

log = logging.getLogger(__name__)
_CA_SUFFIXES = (".pem", ".crt")


class RenewedContext(ssl.SSLContext):
    """Each new connection uses the files as they are now; connections that are open keep what they began with.

    `make` builds a context from the files, whole or not at all. While it fails, the former one stays in use, so a pair
    of which only one half is written is never taken.
    """

    # The SSLContext's own __new__ takes the protocol and ignores what else there is.
    def __init__(
        self, protocol: int, what: str, make: Callable[[], ssl.SSLContext], signature: Callable[[], object]
    ) -> None:
        self._what, self._make, self._signature = what, make, signature
        self._alpn: list[str] | None = None
        self._own_chain: tuple[Any, ...] | None = None
        self._seen: object = signature()
        self._now = make()

    def current(self) -> ssl.SSLContext:
        """The context of a connection that begins now."""
        try:
            found = self._signature()
        except OSError:
            return self._now  # One of the files is just being replaced, or gone, which is told when it is asked for.
        if found != self._seen:
            self._seen = found
            try:
                made = self._completed(self._make())
                if self._signature() == found:
                    self._now = made
                    log.info("%s changed; new connections use the new state", self._what)
                else:
                    self._seen = None  # It changed while it was read: look again at the next connection.
            except (OSError, SpinorError) as error:
                reason = error.message if isinstance(error, SpinorError) else str(error)
                log.warning("%s changed and cannot be used, so the former state stays: %s", self._what, reason)
        return self._now

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return self.current().wrap_socket(*arguments, **options)

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self.current().wrap_bio(*arguments, **options)

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        self._alpn = list(alpn_protocols)
        self._completed(self._now)

    def load_cert_chain(self, *arguments: Any, **options: Any) -> None:
        """A client's own certificate."""
        self._own_chain = (arguments, options)
        self._completed(self._now)

    def _completed(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """What was set from outside, which a new context must have too."""
        if self._alpn is not None:
            context.set_alpn_protocols(self._alpn)
        if self._own_chain is not None:
            context.load_cert_chain(*self._own_chain[0], **self._own_chain[1])
        return context


def client_context(ca: str | os.PathLike[str] | None = None) -> ssl.SSLContext:
    """For a client that trusts the CAs of one file or of one directory (IGTF's, or of *.pem and *.crt files).

    Without one, the operating system's. Names are looked for in subjectAltName alone; proxies are no hosts.
    """
    if not ca:
        context = _strict(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        context.load_default_certs()
        return context
    place = Path(ca)
    context = RenewedContext(
        ssl.PROTOCOL_TLS_CLIENT, f"The CAs in {place}", lambda: _trusting(place), lambda: _signature(place)
    )
    return _strict(context)


def server_context(certificate: Path, key: Path | None, check: Callable[[], None]) -> ssl.SSLContext:
    """For a server with this certificate and key. `check` raises when they must not be used; so does the loading."""
    files = [certificate] if key is None else [certificate, key]

    def make() -> ssl.SSLContext:
        check()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
        return context

    return RenewedContext(
        ssl.PROTOCOL_TLS_SERVER,
        f"The host certificate {certificate}",
        make,
        lambda: [_file_signature(file.stat()) for file in files],
    )


def _strict(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python would fall back to the common name, which RFC 9525 forbids.
    context.hostname_checks_common_name = False
    return context


def _trusting(place: Path) -> ssl.SSLContext:
    context = _strict(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    if not place.is_dir():
        context.load_verify_locations(cafile=place)
        return context
    # OpenSSL looks up <hash>.0 by itself, when it needs it.
    context.load_verify_locations(capath=place)
    for file in sorted(place.iterdir()):
        if file.suffix in _CA_SUFFIXES:
            try:
                context.load_verify_locations(cafile=file)
            except OSError as error:
                # One bad file must not shut out the others' clients; when it is mended, the directory has changed.
                log.warning("%s holds no certificates that can be read: %s", file, error)
    return context


def _signature(place: Path) -> object:
    """What changes when the file, or any file of the directory, changes. Links are followed."""
    if not place.is_dir():
        return _file_signature(place.stat())
    found = []
    with os.scandir(place) as entries:
        for entry in entries:
            try:
                found.append((entry.name, _file_signature(entry.stat())))
            except FileNotFoundError:
                continue  # A link to nowhere.
    return sorted(found)


def _file_signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
