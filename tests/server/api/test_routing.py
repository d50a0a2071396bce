"""Routing: every path and method gets a response of the service."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from middlewares.audit import audit
from middlewares.errors import error_handler
from server.api.routing import add_fallback, add_route


async def hello(_: web.Request) -> web.StreamResponse:
    return web.Response(text="hello")


UNKNOWN_PATH = "The paths are listed in /openapi.json"


def application() -> web.Application:
    """Return an application with one GET and one POST route."""
    app = web.Application(middlewares=[audit(event="none", write=lambda _: None), error_handler()])
    add_route(app, "GET", "/get", hello)
    add_route(app, "POST", "/post", hello, name="named")
    add_fallback(app)
    return app


@pytest.mark.parametrize(
    ("method", "path", "status", "allow", "details"),
    [
        ("GET", "/get", 200, None, None),
        ("HEAD", "/get", 200, None, None),
        ("POST", "/post", 200, None, None),
        ("POST", "/get", 405, "GET, HEAD", "This path takes GET, HEAD"),
        ("OPTIONS", "/get", 405, "GET, HEAD", "This path takes GET, HEAD"),
        ("GET", "/post", 405, "POST", "This path takes POST"),
        ("HEAD", "/post", 405, "POST", "This path takes POST"),
        ("PROPFIND", "/post", 405, "POST", "This path takes POST"),
        ("GET", "/", 404, None, UNKNOWN_PATH),
        ("PUT", "/other", 404, None, UNKNOWN_PATH),
        ("GET", "/get/", 404, None, UNKNOWN_PATH),
    ],
)
async def test_path_and_method(
    method: str, path: str, status: int, allow: str | None, details: str | None
) -> None:
    async with (
        TestClient(TestServer(application())) as client,
        client.request(method, path) as response,
    ):
        assert (response.status, response.headers.get("Allow")) == (status, allow)
        body = await response.text()
        if method != "HEAD":
            assert body == "hello" if details is None else details in body


def test_route_name() -> None:
    assert application().router["named"].canonical == "/post"
