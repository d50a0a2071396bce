"""The application: middleware stack, gunicorn factory, mounting."""

import logging

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from middlewares.timeout import RequestTimeouts
from rig import service as support
from rig.service import make_settings, sign
from server import app
from server.app import PATH, PREFIX, Where, app_factory, middleware_stack, mount
from server.components import Components
from server.master_configuration import MasterConfiguration
from server.serving.run import Runner
from tests.conftest import AuditLines


def test_path() -> None:
    assert PREFIX + PATH == support.PATH == "/api/v1/sessions/vapi/start"


FULL = {"CORS_ALLOWED_ORIGINS": "https://app.test", "REDIS_URL": "redis://127.0.0.1:1"}


def stack_with(**variables: str) -> dict[str, Where]:
    settings = make_settings(**variables)
    stack = middleware_stack(settings, Components(settings), RequestTimeouts(3))
    return {getattr(link, "__name__", "").removesuffix("_middleware"): on for on, link in stack}


def test_order_of_middlewares() -> None:
    stack = stack_with(**FULL)
    assert list(stack) == [
        "audit",
        "response_headers",
        "cors",
        "error_handler",
        "timeout",
        "authentication",
        "revocation",
        "authorization",
        "rate_limit",
    ]
    assert list(stack.values()) == [Where.ALL] * 5 + [Where.ENDPOINT] * 4


def test_unconfigured_middlewares_are_omitted() -> None:
    left_out = set(stack_with(**FULL)) - set(stack_with(RATE_LIMIT="off"))
    assert left_out == {"cors", "revocation", "rate_limit"}


@pytest.fixture
def environment(configured: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set the variables of the tests for a worker whose master has not loaded them."""
    root = logging.getLogger()
    configured.setattr(root, "handlers", [])
    configured.setattr(root, "level", root.level)
    configured.setattr(app, "MASTER", MasterConfiguration())
    return configured


@pytest.mark.usefixtures("environment")
async def test_factory_returns_a_runner() -> None:
    runner = await app_factory()
    assert isinstance(runner, Runner)
    await runner.setup()
    assert runner.server is not None
    await runner.cleanup()


async def test_factory_exits_on_invalid_configuration(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("PORT", "x")
    with pytest.raises(SystemExit) as caught:
        await app_factory()
    assert caught.value.code == 3  # Arbiter.WORKER_BOOT_ERROR: the master ends as well


async def hello(_: web.Request) -> web.StreamResponse:
    """A handler of the host."""
    return web.Response(text="host", headers={"Server": "the host's"})


def test_prefix_must_start_with_a_slash() -> None:
    with pytest.raises(ValueError, match="slash"):
        mount(web.Application(), make_settings(), prefix="voice")


@pytest.mark.parametrize("prefix", [PREFIX, "/voice", "/voice/", ""])
async def test_mounted_endpoint_covers_exactly_its_path(
    prefix: str, audit_lines: AuditLines
) -> None:
    host = web.Application()
    host.router.add_get("/auth/login", hello)
    host.router.add_get(f"{prefix.rstrip('/')}/vapi/other", hello)
    mount(host, make_settings(), prefix=prefix)
    path = prefix.rstrip("/") + PATH
    async with TestClient(TestServer(host)) as client:
        headers = {"Authorization": f"Bearer {sign()}"}
        async with client.post(path, headers=headers) as answer:
            assert answer.status == 200
            assert "Server" not in answer.headers
        async with client.get(path) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        for own in ("/auth/login", f"{prefix.rstrip('/')}/vapi/other"):
            async with client.get(own) as answer:
                assert (await answer.text(), answer.headers["Server"]) == ("host", "the host's")
                assert "X-Request-ID" not in answer.headers
        for none in ("/healthz", "/nowhere", f"{prefix.rstrip('/')}/vapi", f"{path}/more"):
            async with client.get(none) as answer:
                assert (answer.status, await answer.text()) == (404, "404: Not Found")
    assert len(audit_lines()) == 2
