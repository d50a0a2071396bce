"""Options of the socket of a client."""

import array
import asyncio
import fcntl
import socket
import termios
from typing import Final

from server.serving import limits

_TCP_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only


def limit_buffers(transport: asyncio.Transport) -> None:
    """Limit how many bytes may wait for the client or for the service, and for how long.

    The kernel's timer (RFC 5482) starts when the client stops acknowledging bytes or announces a
    full receive buffer. It ends the connection after `limits.UNREAD_SECONDS`.
    """
    transport.set_write_buffer_limits(high=limits.WRITE_BUFFER_BYTES)
    client = transport.get_extra_info("socket")
    # Without these options the kernel lets its buffers grow to several megabytes.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.KERNEL_RECEIVE_BYTES)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.KERNEL_SEND_BYTES)
    if _TCP_USER_TIMEOUT is not None and client.family != socket.AF_UNIX:
        client.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(limits.UNREAD_SECONDS * 1000))


def has_unread_bytes(transport: asyncio.Transport | None) -> bool:
    """Return whether bytes of the client wait in the kernel; False for a closed connection."""
    if transport is None or transport.is_closing():
        return False
    count = array.array("i", [0])
    fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, count)
    return count[0] > 0
