"""What plugins that speak HTTPS need of its connections."""

from collections.abc import Mapping
from typing import Any

import httpcore


class ClosedWhenCutOff:
    """The extension `trace` of a request: closes a connection whose TLS handshake is cut off.

    httpcore does so after an exception but not after a cancellation. Then the connection would stay open until the
    server closes it.
    """

    def __init__(self) -> None:
        self._opened: list[httpcore.AsyncNetworkStream] = []

    async def __call__(self, event: str, facts: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._opened.append(facts["return_value"])
        elif event == "connection.start_tls.failed":
            for stream in self._opened:
                await stream.aclose()
