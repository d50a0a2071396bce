"""The adapter to aiohttp-jwt: dispatch, unexpected errors, and no effect on a host application."""

import importlib
from collections.abc import Awaitable, Callable

import aiohttp_jwt
import aiohttp_jwt.middleware
import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from middlewares.errors import ApiError, ErrorCode
from server.auth import aiohttp_jwt_adapter
from server.auth.aiohttp_jwt_adapter import verify_token
from server.auth.claims import Claims
from server.auth.tokens import Verify
from tests.middlewares.support import log_records
from tests.server.auth.tokens import SECRET, claims, compact, make_verify

OTHER_SECRET = SECRET[::-1]
OURS = make_verify("HS256", SECRET)
OTHER = make_verify("HS256", OTHER_SECRET)


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the global of aiohttp-jwt, which a host application here sets."""
    current = aiohttp_jwt.middleware._request_property
    monkeypatch.setattr(aiohttp_jwt.middleware, "_request_property", current)


def error_of(token: str, verify: Verify = OURS) -> ApiError:
    with pytest.raises(ApiError) as caught:
        verify_token(token, verify)
    return caught.value


def test_token_is_verified_with_what_it_comes_with() -> None:
    assert verify_token(compact(claims()), OURS) == claims()
    assert verify_token(compact(claims(), secret=OTHER_SECRET), OTHER) == claims()
    error_of(compact(claims()), OTHER)
    error_of(compact(claims(), secret=OTHER_SECRET), OURS)


@pytest.mark.parametrize(
    ("token", "details"),
    [
        (compact(claims(), secret=OTHER_SECRET), "The token's signature does not verify"),
        (compact(claims(), {"alg": "HS256", "crit": ["a\r\nb"]}), "The token's header requires"),
        (compact(b"{"), "The token is malformed"),
        ("", "The token's header is not JSON"),
        ("\u00e4.b.c", "The token's header is not JSON"),
    ],
)
def test_invalid_token_is_rejected_without_a_log_record(
    token: str, details: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    error = error_of(token)
    assert error.code is ErrorCode.AUTH_TOKEN_INVALID
    assert error.details.startswith(details)
    assert log_records(caplog) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [MemoryError, ValueError, RecursionError])
def test_unexpected_error_is_rejected_and_logged(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: bytes) -> Claims:
        raise error

    rejection = error_of("a.b.c", fail)
    assert rejection.code is ErrorCode.AUTH_TOKEN_INVALID
    assert rejection.details == "The token is malformed"
    assert rejection.__suppress_context__
    (record,) = log_records(caplog)
    assert record.name == "server.auth.aiohttp_jwt_adapter"
    assert record.getMessage() == "a token was rejected because of an unexpected error"
    assert record.exc_info is not None
    assert record.exc_info[0] is error


# --- a host application that uses aiohttp-jwt itself --------------------------------------------


@pytest.fixture
async def host(aiohttp_client: AiohttpClient) -> Callable[[str], Awaitable[int]]:
    """Serve a route that the host guards; the adapter is loaded before and after its middleware."""
    importlib.reload(aiohttp_jwt_adapter)

    @aiohttp_jwt.login_required  # type: ignore[untyped-decorator]  # aiohttp-jwt's
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=request["of_the_host"]["id"])

    guard = aiohttp_jwt.JWTMiddleware(
        OTHER_SECRET.decode(), request_property="of_the_host", algorithms=["HS256"]
    )
    importlib.reload(aiohttp_jwt_adapter)
    app = web.Application(middlewares=[guard])
    app.router.add_get("/", hello)
    client = await aiohttp_client(app)

    async def send(token: str) -> int:
        async with client.get("/", headers={"Authorization": f"Bearer {token}"}) as response:
            return response.status

    return send


@pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")
async def test_host_accepts_its_own_tokens(host: Callable[[str], Awaitable[int]]) -> None:
    assert await host(compact({"id": "user"}, secret=OTHER_SECRET)) == 200


async def test_host_logs_its_rejections_and_the_service_does_not(
    host: Callable[[str], Awaitable[int]], caplog: pytest.LogCaptureFixture
) -> None:
    bad = compact({"id": "user"}, secret=b"the secret of neither, which is long enough")
    assert await host(bad) == 401
    error_of(bad)
    (record,) = log_records(caplog)
    assert record.name == "aiohttp_jwt.middleware"
    assert record.exc_info


@pytest.mark.parametrize("before", [..., "of_the_host"])
def test_adapter_does_not_change_the_global_of_the_library(
    before: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp_jwt.middleware, "_request_property", before)
    importlib.reload(aiohttp_jwt_adapter)
    assert aiohttp_jwt.middleware._request_property is before
