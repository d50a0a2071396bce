"""Returns freed memory to the operating system."""

import ctypes
from typing import Final

_malloc_trim: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)


def return_free_memory() -> None:
    """Return what the process has freed; about 0.1 ms for each MiB.

    By itself glibc returns only the end of its heap, so a single block that is still in use keeps
    the memory of thousands of closed connections. With another C library this does nothing.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)
