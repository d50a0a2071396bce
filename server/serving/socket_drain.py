"""Closes a listening socket without a reset for clients that have connected to it.

The kernel completes TCP handshakes and queues the connections until the process accepts them.
Closing the socket resets all connections of the queue, also those that have sent a request. So new
connections are dropped first, then the queue is accepted, and then the socket is closed.
"""

import ctypes
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

DRAIN_SHARE: Final = 0.05
"""The share of the grace in which handshakes that have begun can complete."""

_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h; Python has no name for it
# A classic BPF program (linux/filter.h): drops a segment that has SYN set and ACK not, which is
# the first of a connection, and passes every other: the last of a handshake, and data.
_DROP_FIRST_SEGMENTS: Final = (
    (0x30, 0, 0, 13),  # load the byte with the flags (RFC 9293 section 3.1)
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)


def stop_accepting(listeners: Iterable[socket.socket]) -> None:
    """Drop the first segment of new connections, in every process that shares these sockets.

    A client sends that segment again after a second, and then finds the port closed. On systems
    other than Linux this does nothing, and the sockets are closed all the same.
    """
    code = b"".join(struct.pack("HBBI", *step) for step in _DROP_FIRST_SEGMENTS)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(_DROP_FIRST_SEGMENTS), ctypes.addressof(buffer))
    for listener in listeners:
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
