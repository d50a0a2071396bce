"""JSON responses: the one place that sets their content type."""

from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web

JSON: Final = "application/json; charset=utf-8"


def json_response(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response with an encoded JSON body; `headers` are added to it."""
    return web.Response(
        status=status, body=body, headers={hdrs.CONTENT_TYPE: JSON, **(headers or {})}
    )
