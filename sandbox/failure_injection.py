"""Injects failures, for the errors that a client cannot cause."""

import asyncio
from typing import NoReturn

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.errors import ApiError, ErrorCode
from sandbox.tokens import Kind


class FailureInjector:
    """The tokens whose requests must fail, and how."""

    def __init__(self) -> None:
        self._marked: dict[str, Kind] = {}

    def mark(self, token: str, kind: Kind) -> None:
        """Make requests with this token fail according to its kind, if it is one."""
        if kind in _FAILURES:
            self._marked[token] = kind

    def middleware(self) -> Middleware:
        """Return the middleware that injects the failures; it is innermost."""

        @web.middleware
        async def inject_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
            token = request.headers.get(hdrs.AUTHORIZATION, "").removeprefix("Bearer ")
            kind = self._marked.get(token)
            if kind is not None:
                await _FAILURES[kind]()
            return await handler(request)

        return inject_failures


async def _revoked() -> NoReturn:
    raise ApiError(ErrorCode.AUTH_TOKEN_REVOKED, "Sign in again to get a new token")


async def _no_consent() -> NoReturn:
    raise ApiError(ErrorCode.CONSENT_REQUIRED, "recording@2026-01")


async def _used_up() -> NoReturn:
    details = "The minutes of the last 24 hours are used up"
    raise ApiError(ErrorCode.CALL_LIMIT_REACHED, details, retry_after=1200)


async def _crash() -> NoReturn:
    raise RuntimeError("broken on purpose, from the playground")


async def _unavailable() -> NoReturn:
    details = "The revocation list cannot be reached; try again"
    raise ApiError(ErrorCode.AUTH_UNAVAILABLE, details, retry_after=1)


async def _unrecorded() -> NoReturn:
    details = "The audit log cannot be written; try again"
    raise ApiError(ErrorCode.AUDIT_UNAVAILABLE, details, retry_after=5)


async def _stuck() -> None:
    # Longer than the budget; the timeout middleware cancels it.
    await asyncio.sleep(3600)


_FAILURES = {
    Kind.REVOKED: _revoked,
    Kind.NO_CONSENT: _no_consent,
    Kind.USED_UP: _used_up,
    Kind.CRASH: _crash,
    Kind.UNAVAILABLE: _unavailable,
    Kind.UNRECORDED: _unrecorded,
    Kind.STUCK: _stuck,
}
