"""The standard headers, and the measured duration."""

from time import perf_counter

import pytest
from aiohttp import web

from middlewares.context import CONTEXT
from middlewares.headers import ResponseFacts, response_headers
from tests.middlewares.support import NAME, Alone, send_raw


async def test_cache_control_of_the_handler_is_kept(alone: Alone) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(headers={"Cache-Control": "max-age=60", "X-Request-ID": "other"})

    client = await alone(response_headers(), handler=handler)
    async with client.post("/") as response:
        assert response.headers.getall("Cache-Control") == ["max-age=60"]
        assert response.headers.getall("X-Request-ID") == ["request-1"]


async def test_server_timing_is_in_milliseconds(alone: Alone) -> None:
    observed: list[float] = []

    def observe(facts: ResponseFacts) -> None:
        observed.append(facts.seconds)

    client = await alone(
        response_headers(observe=observe), given={"started_at": perf_counter() - 1_000_000}
    )
    async with client.post("/") as response:
        milliseconds = float(response.headers["Server-Timing"].removeprefix("total;dur="))
    assert observed == [pytest.approx(1_000_000, abs=3600)]
    assert milliseconds == pytest.approx(observed[0] * 1000, abs=0.001)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [(200, None, None), (503, "VAPI_SESSION_FAILED", None), (403, "FORBIDDEN", "role")],
)
async def test_observer_is_called_once_per_response(
    alone: Alone, status: int, code: str | None, reason: str | None
) -> None:
    observed: list[tuple[object, ...]] = []

    async def handler(request: web.Request) -> web.Response:
        request[CONTEXT].error_code, request[CONTEXT].reason = code, reason
        return web.Response(status=status)

    def observe(facts: ResponseFacts) -> None:
        observed.append((facts.route, facts.status, facts.code, facts.reason))

    await send_raw(await alone(response_headers(observe=observe), handler=handler))
    assert observed == [(NAME, status, code, reason)]
