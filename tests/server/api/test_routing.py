"""Routing: every path and method gets an answer of the service."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from middlewares.audit import audit
from middlewares.error_handler import error_handler
from server.api.routing import add_fallback, add_route


async def greet(_: web.Request) -> web.StreamResponse:
    """The handler."""
    return web.Response(text="hello")


def application() -> web.Application:
    """Return an application with one GET and one POST route."""
    links = [audit(event="none", write=lambda _: None), error_handler()]
    app = web.Application(middlewares=links)
    add_route(app, "GET", "/get", greet)
    add_route(app, "POST", "/post", greet, name="named")
    add_fallback(app)
    return app


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/get", 200, None),
        ("HEAD", "/get", 200, None),
        ("POST", "/post", 200, None),
        ("POST", "/get", 405, "GET, HEAD"),
        ("OPTIONS", "/get", 405, "GET, HEAD"),
        ("GET", "/post", 405, "POST"),
        ("HEAD", "/post", 405, "POST"),
        ("PROPFIND", "/post", 405, "POST"),
        ("GET", "/", 404, None),
        ("PUT", "/other", 404, None),
        ("GET", "/get/", 404, None),
    ],
)
async def test_other_methods_get_405_with_allow(
    method: str, path: str, status: int, allow: str | None
) -> None:
    async with (
        TestClient(TestServer(application())) as client,
        client.request(method, path) as answer,
    ):
        assert answer.status == status
        assert answer.headers.get("Allow") == allow


def test_route_name() -> None:
    assert application().router["named"].canonical == "/post"
