"""Where errors become answers: whatever is raised below leaves as the one envelope."""

import logging
from functools import lru_cache
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.catalogue import ERRORS, ApiError, ErrorCode
from middlewares.context import ERROR_CODE, REQUEST_ID

JSON: Final = "application/json; charset=utf-8"

log = logging.getLogger(__name__)

_OF_STATUS: Final = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
}


@lru_cache(maxsize=256)
def _body(code: ErrorCode, details: str) -> bytes:
    """Write the envelope: there are few different ones, and hostile clients ask for many."""
    error = {"code": code, "message": ERRORS[code].message, "details": details}
    return msgspec.json.encode({"success": False, "error": error})


def envelope(error: ApiError) -> web.Response:
    """Write an error as the answer that clients get: the only place that does."""
    kind = ERRORS[error.code]
    headers = {hdrs.CONTENT_TYPE: JSON, **error.headers}
    if kind.challenge is not None:
        headers[hdrs.WWW_AUTHENTICATE] = kind.challenge
    response = web.Response(
        status=kind.status,
        body=_body(error.code, error.details),
        headers=headers,
    )
    if error.close:
        response.force_close()
    return response


def _from_aiohttp(error: web.HTTPException) -> ApiError:
    """Say what aiohttp raised in our own terms; of its headers only `Allow` means anything here."""
    fallback = ErrorCode.INVALID_REQUEST if error.status < 500 else ErrorCode.INTERNAL_ERROR
    code = _OF_STATUS.get(error.status, fallback)
    allow = error.headers.get(hdrs.ALLOW)
    return ApiError(code, ERRORS[code].message, headers={hdrs.ALLOW: allow} if allow else None)


def _answer(request: web.Request, error: ApiError) -> web.Response:
    """Answer at once: an error kept in a local name would hold its trace, which holds the name."""
    request[ERROR_CODE] = error.code
    return envelope(error)


def errors() -> Middleware:
    """Answer whatever is raised below with the envelope; only a cancellation passes."""

    @web.middleware
    async def errors_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return _answer(request, error)
        except web.HTTPException as error:
            return _answer(request, _from_aiohttp(error))
        except Exception:
            request_id = request[REQUEST_ID]
            log.exception("request failed", extra={"request_id": request_id})
            details = f"Quote request id {request_id} to support"
            return _answer(request, ApiError(ErrorCode.INTERNAL_ERROR, details))

    return errors_middleware
