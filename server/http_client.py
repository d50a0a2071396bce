"""Requests to other services: bounded answers, and the delay before a retry."""

from codecs import BOM_UTF8
from random import uniform
from typing import Final

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout

_FIRST_SECONDS: Final = 0.5
_MAX_DOUBLINGS: Final = 16
"""Beyond it the longest delay of every caller is reached; it keeps the power finite."""


def retry_delay(failures: int, *, longest: float) -> float:
    """Return the seconds to wait after this many failures in a row, from 1: at most `longest`.

    The delay doubles with each failure. Up to a quarter is taken off at random, so that processes
    that saw the same outage do not retry in step.
    """
    delay = _FIRST_SECONDS * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
    return min(delay, longest) * uniform(0.75, 1)  # noqa: S311  not for cryptography


MAX_BYTES: Final = 256 * 1024


class FetchError(Exception):
    """The document is not available. The message has the reason and no upstream text."""


async def fetch_json(session: ClientSession, url: str, timeout: float) -> object:  # noqa: ASYNC109  ClientTimeout enforces it
    """Fetch `url` within `timeout` seconds, without redirects, up to `MAX_BYTES`.

    Raises `FetchError`.
    """
    try:
        async with session.get(
            url, timeout=ClientTimeout(total=timeout), allow_redirects=False
        ) as response:
            if response.status != 200:
                raise FetchError(f"status {response.status}")
            body = bytearray()
            while chunk := await response.content.readany():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise FetchError(f"more than {MAX_BYTES} bytes")
            return msgspec.json.decode(body.removeprefix(BOM_UTF8))
    except (ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
        raise FetchError(type(error).__name__) from None
