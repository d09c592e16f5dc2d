"""The port that the service is reached at."""

import errno
import socket

from service.process.hosting import HostingError

# How many connections the kernel keeps for us until they are taken: those of a stampede, and of the moment of a start.
_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket on which the kernel takes connections from now on: whoever has it can say so. Port 0 is any free one.

    Raises `HostingError`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise HostingError(f"Port {port} of {host} is taken: choose another PORT.") from None
        reason = str(error.strerror).partition(" (while")[0]
        raise HostingError(f"Port {port} of {host} can't be had: {reason}. Choose another HOST or PORT.") from None


def url(listening: socket.socket) -> str:
    """Where that is, with the port that it has got."""
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}" if listening.family == socket.AF_INET6 else f"http://{host}:{port}"
