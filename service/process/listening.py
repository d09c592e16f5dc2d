"""The socket that the service listens on."""

import errno
import socket

from service.process.hosting import HostingError

# Connections that the kernel queues until a worker accepts them: enough for a burst, and for the time of a restart.
_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Binds a TCP socket and listens on it. Port 0 selects a free port; host `::` also accepts IPv4.

    Raises `HostingError` if the address can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise HostingError(f"Port {port} of {host} is taken: choose another PORT.") from None
        reason = str(error.strerror).partition(" (while")[0]
        raise HostingError(f"Port {port} of {host} can't be had: {reason}. Choose another HOST or PORT.") from None


def url(listening: socket.socket) -> str:
    """Returns the HTTP URL of a listening socket, with its actual port."""
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}" if listening.family == socket.AF_INET6 else f"http://{host}:{port}"
