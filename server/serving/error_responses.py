"""The response to a request that never reached the middlewares."""

import logging
from email.utils import formatdate
from secrets import token_hex
from typing import Final, cast

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from middlewares.errors import ApiError, ErrorCode, error_response, internal_error
from middlewares.headers import set_standard_headers

log = logging.getLogger(__name__)

_NOT_HTTP: Final = "The request is not well-formed HTTP"


class LimitError(Exception):
    """A request exceeds a limit of the connection; the text names it, for the client."""


class _FinalResponse(web.Response):
    """The last response of a connection, without the `Server` header that aiohttp would add."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Send everything."""
        body = cast("bytes", self.body)
        self.headers.update(
            {hdrs.CONTENT_LENGTH: str(len(body)), hdrs.DATE: formatdate(usegmt=True)}
        )
        await request.writer.write_headers(f"HTTP/1.1 {self.status} {self.reason}", self.headers)
        await request.writer.write_eof(b"" if request.method == hdrs.METH_HEAD else body)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: everything has been sent."""


def final_error_response(status: int, exc: BaseException | None) -> web.Response:
    """Return the last response of a connection: 400 for what is not HTTP, else 500, logged."""
    request_id = token_hex(16)
    if status < 500:
        log.info("not well-formed HTTP (%s)", type(exc).__name__)
        details = str(exc) if isinstance(exc, LimitError) else _NOT_HTTP
        error = ApiError(ErrorCode.INVALID_REQUEST, details)
    else:
        log.error("request failed", exc_info=exc, extra={"request_id": request_id})
        error = internal_error(request_id)
    plain = error_response(error)
    response = _FinalResponse(status=plain.status, body=plain.body, headers=plain.headers)
    set_standard_headers(response, request_id, 0)
    response.headers[hdrs.CONNECTION] = "close"
    response.force_close()
    return response
