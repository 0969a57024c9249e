"""Which TCP port the server gets: the wished one, or the next that is free."""

import errno
import socket

from spinor.errors import SpinorError

PREFERRED = 8443
_TRIES = 200


class NoFreePort(SpinorError):
    """No port is free; name another one with --port."""

    code = "no-free-port"


def free_port(wished: int) -> int:
    for port in range(wished, min(wished + _TRIES, 65536)):
        if is_free(port):
            return port
    raise NoFreePort(f"No port from {wished} to {min(wished + _TRIES, 65536) - 1} is free; name another with --port.")


def is_free(port: int) -> bool:
    """Free on both loopback addresses, since a browser that asks for localhost may try either first."""
    return all(_can_bind(family, host, port) for family, host in _LOOPBACK)


_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def _can_bind(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the server does it: connections of the past that wait for their end do not occupy a port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        # A machine without IPv6 has nobody there who could take the port.
        return error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True
