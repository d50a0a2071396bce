"""Fetches a small JSON document from an address that may do anything at all."""

from typing import Final

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout

MAX_BYTES: Final = 256 * 1024


class CannotDownload(Exception):
    """The document cannot be had; the text says why, and repeats nothing of what came."""


async def download_json(session: ClientSession, url: str, timeout: float) -> object:  # noqa: ASYNC109  ClientTimeout keeps it
    """Fetch `url` within `timeout` seconds, follow no redirect, take `MAX_BYTES` at most.

    Raises `CannotDownload`.
    """
    try:
        async with session.get(
            url, timeout=ClientTimeout(total=timeout), allow_redirects=False
        ) as response:
            if response.status != 200:
                raise CannotDownload(f"status {response.status}")
            body = bytearray()
            while chunk := await response.content.readany():
                body += chunk
                if len(body) > MAX_BYTES:
                    response.close()
                    raise CannotDownload(f"more than {MAX_BYTES} bytes")
            return msgspec.json.decode(bytes(body))
    except (ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
        raise CannotDownload(type(error).__name__) from None
