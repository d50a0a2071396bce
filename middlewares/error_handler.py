"""Turns exceptions into error responses: the one place that writes an error body."""

import logging
from functools import lru_cache
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.api_errors import ERRORS, ApiError, ErrorCode, internal_error
from middlewares.json_response import json_response
from middlewares.request_context import CONTEXT

log = logging.getLogger(__name__)

_CODE_BY_STATUS: Final = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
}


@lru_cache(maxsize=256)
def _body(code: ErrorCode, details: str) -> bytes:
    """Encode the error envelope. Cached, because few distinct errors make up most traffic."""
    error = {"code": code, "message": ERRORS[code].message, "details": details}
    return msgspec.json.encode({"success": False, "error": error})


def error_response(error: ApiError) -> web.Response:
    """Return the response for an error: the envelope, its status and its headers."""
    definition = ERRORS[error.code]
    challenge = definition.challenge
    headers = {**error.headers, hdrs.WWW_AUTHENTICATE: challenge} if challenge else error.headers
    body = _body(error.code, error.details)
    response = json_response(body, status=definition.status, headers=headers)
    if error.close:
        response.force_close()
    return response


def _from_aiohttp(error: web.HTTPException) -> ApiError:
    """Convert an exception of aiohttp; of its headers, only `Allow` is kept."""
    fallback = ErrorCode.INVALID_REQUEST if error.status < 500 else ErrorCode.INTERNAL_ERROR
    code = _CODE_BY_STATUS.get(error.status, fallback)
    allow = error.headers.get(hdrs.ALLOW)
    return ApiError(code, ERRORS[code].message, headers={hdrs.ALLOW: allow} if allow else None)


def _respond(request: web.Request, error: ApiError) -> web.Response:
    """Record the code and the reason; return the response.

    The caller passes the exception on without binding it to a local name: a bound exception and
    its traceback would form a reference cycle.
    """
    context = request[CONTEXT]
    context.error_code, context.reason = error.code, error.reason
    return error_response(error)


def error_handler() -> Middleware:
    """Convert every exception of the inner middlewares to a response; cancellation passes."""

    @web.middleware
    async def error_handler_middleware(
        request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return _respond(request, error)
        except web.HTTPException as error:
            return _respond(request, _from_aiohttp(error))
        except Exception:
            context = request[CONTEXT]
            extra = {"request_id": context.request_id, "trace_id": context.trace_id}
            log.exception("request failed", extra=extra)
            return _respond(request, internal_error(context.request_id))

    return error_handler_middleware
