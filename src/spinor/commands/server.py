"""`spinor server`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import socket
    import ssl

    from spinor.settings import Settings

GRACE_S = 10  # So long may a request still run after SIGTERM.


@click.command()
def server() -> None:
    """Serve the HTTP API at SPINOR_LISTEN, until SIGTERM. Any number of servers may run on one database."""
    import signal

    from spinor import logs
    from spinor.identity.keys import KeyRing
    from spinor.settings import Settings

    settings = Settings.from_environment()
    logs.configure(settings.log_level)
    KeyRing.load(settings.keys_dir)  # Its absence is one clear sentence here, before anything is started.
    listener = listen(settings.listen)
    # uvicorn raises the signal again after an orderly end; that end is the whole of it, and the exit code is 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    serve(settings, listener)


def serve(settings: Settings, listener: socket.socket) -> None:
    """Answer on this socket until a signal; long polls are ended at once, other requests within ten seconds."""
    import asyncio

    import uvicorn

    from spinor.app import create_app
    from spinor.commands.protocol import Protocol

    tls = tls_context(settings)
    app = create_app(settings)

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.signals.close()
            cutting = asyncio.create_task(_cut_idle_connections(self.server_state))
            await super().shutdown(sockets)
            cutting.cancel()

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
        ssl_context_factory=(lambda *_: tls) if tls else None,
    )
    Server(config).run(sockets=[listener])


async def _cut_idle_connections(state: Any) -> None:
    """End connections that are only kept: a TLS close waits for the peer's farewell, and an idle client sends none."""
    import asyncio

    while True:
        await asyncio.sleep(0.3)
        for connection in () if state.tasks else list(state.connections):
            if connection.transport.get_write_buffer_size() == 0:
                connection.transport.abort()


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """From the files of the settings, and again when they have changed; None where something before us speaks TLS."""
    from datetime import UTC, datetime

    from spinor.commands.certificate import refuse_faulty
    from spinor.x509.tls import server_context

    if settings.tls_cert is None:
        return None
    certificate, key = settings.tls_cert, settings.tls_key or settings.tls_cert
    return server_context(certificate, key, lambda: refuse_faulty(certificate, key, settings.url, datetime.now(UTC)))


def listen(address: str) -> socket.socket:
    """A listening socket at `host:port` or `[host]:port`; BadSettings when the address is wrong or taken."""
    import socket

    from spinor.settings import BadSettings

    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise BadSettings(f"SPINOR_LISTEN is {address!r}; it must be host:port, for example 127.0.0.1:8443.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=2048)
    except OSError as error:
        raise BadSettings(f"Cannot listen on {address}: {error.strerror or error}.") from None
