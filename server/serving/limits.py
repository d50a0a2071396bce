"""The limits of a connection. `docs/security.md` explains them."""

from typing import Any, Final

MAX_HEAD_BYTES: Final = 32768
"""The request line and all headers together, with their line breaks."""
LARGE_HEAD_BYTES: Final = 24576
"""A larger head whose body has not arrived with it ends the connection with its response."""
MAX_HEADER_FIELDS: Final = 100
READ_BYTES: Final = 4096
"""The most that is read from a connection at once."""
WRITE_BUFFER_BYTES: Final = 16384
"""The response bytes that wait in the process; a response beyond them waits for the client."""
KERNEL_RECEIVE_BYTES: Final = 16384
KERNEL_SEND_BYTES: Final = 65536
"""The buffers of a connection in the kernel, which doubles them. With a smaller one for sending,
large responses are slow where packets are large."""
HEAD_SECONDS: Final = 30.0
"""The time for a head to arrive: of the first request from the connection on, of others from their
first byte on. `Runner` is told how long a connection may be idle."""
UNREAD_SECONDS: Final = 10.0
"""A client that reads nothing of its response for this long is disconnected."""
LINGER_SECONDS: Final = 1.0
"""The time for a client to read the last response while it still sends."""
HALF_CLOSED_SECONDS: Final = 1.0
"""The time for the response after a client closes its side, as a client that has left does too."""

AIOHTTP_OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,  # the audit line takes its place
    "auto_decompress": False,  # server/api/body.py decompresses, after authentication
    "lingering_time": LINGER_SECONDS,
    "max_field_size": MAX_HEAD_BYTES,  # a token that is too large gets its own error
    "max_line_size": MAX_HEAD_BYTES,
    "max_headers": MAX_HEADER_FIELDS,
    "read_bufsize": READ_BYTES,  # of a body; reading pauses at twice as much
}
