"""What the service asks of the kernel for the socket of a client."""

import array
import asyncio
import fcntl
import socket
import termios
from typing import Final

from server.serving.limits import UNREAD_SECONDS

_TCP_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only
_WRITE_BUFFER_BYTES: Final = 16384


def limit_unread_bytes(transport: asyncio.Transport) -> None:
    """Let few bytes wait in the process, and none longer than `UNREAD_SECONDS` in the kernel.

    The kernel's timer (RFC 5482) starts when the client stops acknowledging bytes or announces a
    full receive buffer. Then the kernel closes the connection.
    """
    transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
    client = transport.get_extra_info("socket")
    if _TCP_USER_TIMEOUT is not None:
        client.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(UNREAD_SECONDS * 1000))


def has_unread_bytes(transport: asyncio.Transport | None) -> bool:
    """Return whether bytes of the client wait in the kernel; False for a closed connection."""
    if transport is None or transport.is_closing():
        return False
    count = array.array("i", [0])
    fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, count)
    return count[0] > 0
