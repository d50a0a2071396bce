"""The application as a whole: its chain, its factory for gunicorn, its place inside a host."""

import logging
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from middlewares.timeout import RequestTimeouts
from server.app import PATH, PREFIX, Scope, _lifespan, app_factory, middleware_stack, mount
from server.components import Components
from server.observability.audit_log import AuditLog
from server.serving.runner import Runner
from tests import support
from tests.conftest import AuditLines
from tests.process import NAMES
from tests.support import VARIABLES, make_settings, sign


def test_the_endpoint_is_where_the_contract_says() -> None:
    assert PREFIX + PATH == support.PATH == "/api/v1/sessions/vapi/start"


FULL = {"CORS_ALLOWED_ORIGINS": "https://app.test", "REDIS_URL": "redis://127.0.0.1:1"}


def links_with(**variables: str) -> dict[str, Scope]:
    settings = make_settings(**variables)
    links = middleware_stack(
        settings, Components(settings), AuditLog(lambda _: None), RequestTimeouts(3)
    )
    return {getattr(link, "__name__", "").removesuffix("_middleware"): on for on, link in links}


def test_the_chain_stands_in_the_order_that_it_must() -> None:
    links = links_with(**FULL)
    assert list(links) == [
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
    assert list(links.values()) == [Scope.ALL] * 5 + [Scope.ENDPOINT] * 4


def test_a_link_that_nothing_is_asked_of_is_left_out() -> None:
    left_out = set(links_with(**FULL)) - set(links_with(RATE_LIMIT="off"))
    assert left_out == {"cors", "revocation", "rate_limit"}


async def test_audit_lines_still_waiting_are_written_when_the_application_ends() -> None:
    flushed: list[str] = []
    flush = partial(flushed.append, "flushed")
    lifespan = _lifespan(Components(make_settings()), flush, web.Application())
    await anext(lifespan)
    assert flushed == []
    async for _ in lifespan:
        pytest.fail("it ends once")
    assert flushed == ["flushed"]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Set the tests' variables, and stand in a folder of our own."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    return monkeypatch


@pytest.mark.usefixtures("environment")
async def test_gunicorn_gets_a_runner_that_is_ready() -> None:
    runner = await app_factory()
    assert isinstance(runner, Runner)
    await runner.setup()
    assert runner.server is not None
    await runner.cleanup()


async def test_gunicorn_gets_none_on_a_configuration_that_does_not_hold(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("PORT", "x")
    with pytest.raises(SystemExit) as caught:
        await app_factory()
    assert caught.value.code == 3  # Arbiter.WORKER_BOOT_ERROR: the master ends as well


async def hello(_: web.Request) -> web.StreamResponse:
    """Answer for the host."""
    return web.Response(text="host", headers={"Server": "the host's"})


def test_a_prefix_that_is_no_path_is_refused() -> None:
    with pytest.raises(ValueError, match="slash"):
        mount(web.Application(), make_settings(), prefix="voice")


@pytest.mark.parametrize("prefix", [PREFIX, "/voice", "/voice/", ""])
async def test_in_a_host_the_endpoint_stands_alone_under_its_path(
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
        async with client.post(f"{path}/more") as answer:
            assert (await answer.json())["error"]["code"] == "NOT_FOUND"
        for own in ("/auth/login", f"{prefix.rstrip('/')}/vapi/other"):
            async with client.get(own) as answer:
                assert (await answer.text(), answer.headers["Server"]) == ("host", "the host's")
                assert "X-Request-ID" not in answer.headers
        for none in ("/healthz", "/nowhere", f"{prefix.rstrip('/')}/vapi"):
            async with client.get(none) as answer:
                assert (answer.status, await answer.text()) == (404, "404: Not Found")
    assert len(audit_lines()) == 2
