"""The way out: a listening socket is closed so that nobody who got in is sent away.

The kernel, not the process, completes TCP handshakes, and queues who came until the process accepts
them. Closing a listening socket resets everybody in that queue, though their request may have been
sent already. So, before closing: keep further newcomers out, and accept those who are in.
"""

import ctypes
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

DRAIN_SHARE: Final = 0.05
"""The part of the grace that handshakes under way are given to complete."""

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
    """Let nobody new in, for good and for every process that shares these sockets.

    Who knocks now hears nothing, knocks again a second later, and by then is told that the port is
    closed. On systems other than Linux this does nothing: the sockets are closed all the same.
    """
    code = b"".join(struct.pack("HBBI", *step) for step in _DROP_FIRST_SEGMENTS)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(_DROP_FIRST_SEGMENTS), ctypes.addressof(buffer))
    for listener in listeners:
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
