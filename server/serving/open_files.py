"""The limit of open files of the process."""

import resource
from typing import Final

_WANTED_FILES: Final = 65536
_OTHER_FILES: Final = 64
"""What the process needs besides the connections of clients: sockets, logs, Redis, upstreams."""


def raise_open_file_limit() -> None:
    """Raise the soft limit of open files to 65,536 or the hard limit; never lower it.

    The usual 1,024 are soon used up by idle connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _WANTED_FILES:
        return
    most = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def connections_within_limit(maximum: int) -> int:
    """Return how many of `maximum` connections the limit of open files allows, at least one.

    Beyond the limit libuv silently closes each new connection, and no upstream or Redis
    connection can be opened.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return maximum
    return min(maximum, soft - min(_OTHER_FILES, soft // 2))
