"""Injects failures, for the errors that a client cannot cause."""

import asyncio
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.errors import ApiError, ErrorCode
from sandbox.tokens import Kind


class FailureInjector:
    """The tokens whose requests must fail, and how."""

    def __init__(self) -> None:
        self._marked: dict[str, Kind] = {}

    def mark(self, token: str, kind: Kind) -> None:
        """Make requests with this token fail, if its kind is one whose requests fail."""
        if kind in _FAILURES:
            self._marked[token] = kind

    def middleware(self) -> Middleware:
        """Return the middleware that injects the failures; it is innermost."""

        @web.middleware
        async def inject_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
            token = request.headers.get(hdrs.AUTHORIZATION, "").removeprefix("Bearer ")
            if (kind := self._marked.get(token)) is not None:
                await _fail(kind)
            return await handler(request)

        return inject_failures


async def _fail(kind: Kind) -> None:
    if kind is Kind.STUCK:
        await asyncio.sleep(3600)  # longer than the budget: the timeout middleware cancels it
    elif kind is Kind.CRASH:
        raise RuntimeError("broken on purpose, from the playground")
    else:
        code, details, retry_after = _ERRORS[kind]
        raise ApiError(code, details, retry_after=retry_after)


_ERRORS: Final[dict[Kind, tuple[ErrorCode, str, int | None]]] = {
    Kind.REVOKED: (ErrorCode.AUTH_TOKEN_REVOKED, "Sign in again to get a new token", None),
    Kind.NO_CONSENT: (ErrorCode.CONSENT_REQUIRED, "recording@2026-01", None),
    Kind.USED_UP: (
        ErrorCode.CALL_LIMIT_REACHED,
        "The minutes of the last 24 hours are used up",
        1200,
    ),
    Kind.UNAVAILABLE: (
        ErrorCode.AUTH_UNAVAILABLE,
        "The revocation list cannot be reached; try again",
        1,
    ),
    Kind.UNRECORDED: (
        ErrorCode.AUDIT_UNAVAILABLE,
        "The audit log cannot be written; try again",
        5,
    ),
}
_FAILURES: Final = frozenset({*_ERRORS, Kind.STUCK, Kind.CRASH})
