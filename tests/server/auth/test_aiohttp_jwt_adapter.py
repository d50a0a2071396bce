"""The adapter to aiohttp-jwt: dispatch, unexpected errors, and no effect on a host application."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp_jwt
import aiohttp_jwt.middleware
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pytest_aiohttp import AiohttpClient

from middlewares.errors import ApiError, ErrorCode
from server.auth import aiohttp_jwt_adapter
from server.auth.aiohttp_jwt_adapter import Decoder
from server.auth.claims import Claims
from tests.middlewares.support import log_records
from tests.server.auth.tokens import SECRET, claims, compact, make_decoder

OTHER_SECRET = SECRET[::-1]


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the global of aiohttp-jwt, which a host application here sets."""
    current = aiohttp_jwt.middleware._request_property
    monkeypatch.setattr(aiohttp_jwt.middleware, "_request_property", current)


def decoder() -> Decoder:
    return make_decoder("HS256", SECRET)


async def error_of(decoding: Awaitable[Claims]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await decoding
    return caught.value


async def test_valid_token_gives_its_claims() -> None:
    assert await decoder()(compact(claims())) == claims()


async def test_concurrent_tokens_give_their_own_claims() -> None:
    decode = decoder()
    tokens = [compact(claims(id=f"pt_{number}")) for number in range(100)]
    decoded = await asyncio.gather(*(decode(token) for token in tokens))
    assert [each["id"] for each in decoded] == [f"pt_{number}" for number in range(100)]


async def test_decoders_keep_their_keys_apart() -> None:
    ours, other = decoder(), make_decoder("HS256", OTHER_SECRET)
    assert await other(compact(claims(), secret=OTHER_SECRET)) == claims()
    assert await ours(compact(claims())) == claims()
    await error_of(other(compact(claims())))


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
async def test_invalid_token_is_rejected_without_a_log_record(
    token: str, details: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    error = await error_of(decoder()(token))
    assert error.code is ErrorCode.AUTH_TOKEN_INVALID
    assert error.details.startswith(details)
    assert log_records(caplog) == []
    assert capfd.readouterr() == ("", "")


@given(st.text(st.characters(exclude_categories=()), max_size=20))
async def test_any_text_is_rejected(text: str) -> None:
    assert (await error_of(decoder()(text))).code is ErrorCode.AUTH_TOKEN_INVALID


@pytest.mark.parametrize("error", [MemoryError, ValueError, RecursionError])
async def test_unexpected_error_is_rejected_and_logged(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: bytes) -> Claims:
        raise error

    rejection = await error_of(aiohttp_jwt_adapter.make_decoder(fail)("a.b.c"))
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
    """Serve a route that the host guards; decoders are made before and after its middleware."""
    decoder()

    @aiohttp_jwt.login_required  # type: ignore[untyped-decorator]  # aiohttp-jwt's
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=request["of_the_host"]["id"])

    guard = aiohttp_jwt.JWTMiddleware(
        OTHER_SECRET.decode(), request_property="of_the_host", algorithms=["HS256"]
    )
    decoder()
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
    await error_of(decoder()(bad))
    (record,) = log_records(caplog)
    assert record.name == "aiohttp_jwt.middleware"
    assert record.exc_info


@pytest.mark.parametrize("before", [..., "of_the_host"])
def test_decoder_does_not_change_the_global_of_the_library(
    before: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp_jwt.middleware, "_request_property", before)
    decoder()
    assert aiohttp_jwt.middleware._request_property is before
