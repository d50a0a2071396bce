"""Adds routes. Unknown paths and methods are answered with the errors of this service."""

from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from middlewares.errors import ApiError, ErrorCode
from server.api.body import defer_continue

FALLBACK: Final = "fallback"
"""The name of the route for unknown paths."""


def add_route(
    app: web.Application, method: str, path: str, handler: Handler, *, name: str | None = None
) -> None:
    """Add a path with one method (GET includes HEAD); other methods get 405."""
    resource = app.router.add_resource(path, name=name)
    methods = [method, hdrs.METH_HEAD] if method == hdrs.METH_GET else [method]
    for each in methods:
        resource.add_route(each, handler, expect_handler=defer_continue)
    allow = ", ".join(methods)

    async def other_method(_: web.Request) -> web.StreamResponse:
        details = f"This path takes {allow}"
        raise ApiError(ErrorCode.METHOD_NOT_ALLOWED, details, headers={hdrs.ALLOW: allow})

    resource.add_route(hdrs.METH_ANY, other_method, expect_handler=defer_continue)


class _ExactSubApp(web.PrefixedSubAppResource):
    """A sub-application that takes the paths it has; other paths below it remain the host's."""

    async def resolve(
        self, request: web.Request
    ) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """Return the match and the allowed methods, or no match for a path that is unknown."""
        match, methods = await super().resolve(request)
        unknown = match is not None and isinstance(match.http_exception, web.HTTPNotFound)
        return (None, set()) if unknown else (match, methods)


def add_exact_subapp(host_app: web.Application, path: str, app: web.Application) -> None:
    """Add an application at `path` of a host application, which answers what `app` does not have.

    `add_subapp` would let `app` answer every path below `path`.
    """
    host_app._add_subapp(lambda: _ExactSubApp(path, app), app)  # noqa: SLF001  takes a resource


def add_fallback(app: web.Application) -> None:
    """Answer every path without a route with 404. Call it last."""
    app.router.add_route(
        hdrs.METH_ANY, "/{path:.*}", _not_found, name=FALLBACK, expect_handler=defer_continue
    )


async def _not_found(_: web.Request) -> web.StreamResponse:
    raise ApiError(ErrorCode.NOT_FOUND, "The paths are listed in /openapi.json")
