"""Fetches a small JSON document from an address that is not trusted."""

from typing import Final

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout

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
            return msgspec.json.decode(bytes(body))
    except (ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
        raise FetchError(type(error).__name__) from None
