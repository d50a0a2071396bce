"""The pause of all sessions: by the setting, and through Redis."""

import logging

import pytest

from middlewares.errors import ApiError
from rig.redis_server import RedisServer
from rig.service import claims, sign
from rig.waiting import eventually
from server.policies.pause import SessionPause, decode_pause, encode_pause
from tests.conftest import Serve
from tests.revocation_keys import patient_key
from tests.server.redis.support import Clock, code, metric, reports

PAUSE_KEY = "{vapi-sessions}:paused"
DETAILS = "Voice sessions are paused"


def retry_after(pause: SessionPause) -> str | None:
    """Return `Retry-After` of the refusal: `none` without the header, None without a refusal."""
    if not pause.is_paused():
        pause.ensure_not_paused()
        return None
    with pytest.raises(ApiError) as caught:
        pause.ensure_not_paused()
    assert (caught.value.code, caught.value.details) == ("VAPI_SESSION_FAILED", DETAILS)
    return caught.value.headers.get("Retry-After", "none")


def test_retry_after_is_the_time_left_and_the_pause_ends_by_itself() -> None:
    clock = Clock()
    pause = SessionPause(always=False, clock=clock)
    pause.record(encode_pause(clock.now + 90, ""))
    assert retry_after(pause) == "90"
    clock.now += 80.5
    assert retry_after(pause) == "10"
    clock.now += 9.4
    assert retry_after(pause) == "1"
    clock.now += 0.1
    assert retry_after(pause) is None
    pause.record(encode_pause(None, ""))
    assert retry_after(pause) == "none"
    pause.record(None)
    assert retry_after(pause) is None


def test_answer_of_redis_wins_over_the_clock() -> None:
    clock = Clock()
    pause = SessionPause(always=False, clock=clock)
    for _ in range(10):
        pause.record(encode_pause(clock.now - 3600, ""))
        assert retry_after(pause) == "1"
        clock.now += 1
    clock.now += 1
    assert retry_after(pause) is None


def test_setting_pauses_whatever_redis_says() -> None:
    clock = Clock()
    pause = SessionPause(always=True, clock=clock)
    assert retry_after(pause) == "none"
    pause.record(encode_pause(clock.now + 90, ""))
    assert retry_after(pause) == "none"
    pause.record(None)
    assert retry_after(pause) == "none"


@pytest.mark.parametrize(
    "value",
    [
        *[b"", b"1", b"\xff", b'{"reason":"\xff"}', b"[]"],
        *[b'{"until":"soon"}', b'{"until":1e300}', b'{"until":-1}'],
    ],
)
def test_any_other_value_is_a_pause_without_an_end(value: bytes) -> None:
    assert decode_pause(value) == decode_pause(b"{}")
    pause = SessionPause(always=False)
    pause.record(value)
    assert retry_after(pause) == "none"


@pytest.mark.parametrize(
    ("until", "expected"),
    [(-1, None), (0, 0), (253402300799, 253402300799), (253402300800, None)],
)
def test_end_is_a_time_that_can_be_written(until: int, expected: float | None) -> None:
    pause = decode_pause(b'{"until":%d}' % until)
    assert (pause.until, pause.reason) == (expected, "")


def test_begin_and_end_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    pause = SessionPause(always=False, clock=clock)
    for value in (
        *[None] * 2,
        *[encode_pause(None, "")] * 2,
        *[encode_pause(clock.now + 5, "incident\n\u2028 forged \x1b[31m")] * 2,
        *[None] * 2,
    ):
        pause.record(value)
    pause.record(encode_pause(clock.now + 5, "x" * 1000))
    clock.now += 5
    assert [pause.is_paused(), pause.is_paused()] == [False, False]
    ended = (logging.INFO, "the pause through Redis has ended")
    until = "sessions are paused through Redis until 1970-01-12T13:46:45.000Z: "
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (logging.WARNING, "sessions are paused through Redis without an end: no reason"),
        (logging.WARNING, rf"{until}incident\u000a\u2028 forged \u001b[31m"),
        ended,
        (logging.WARNING, until + "x" * 500),
        ended,
    ]


# --- in the service -----------------------------------------------------------------------------


@pytest.mark.redis
async def test_pause_refuses_after_all_checks_of_the_request(
    serve: Serve, redis_server: RedisServer
) -> None:
    service = await serve(REDIS_URL=redis_server.url, RATE_LIMIT="1/hour", VAPI_CHECK_SECONDS="30")
    await redis_server.execute("SET", patient_key("pt_9"), "1")
    await redis_server.execute("SET", PAUSE_KEY, "{}")
    assert await code(service, id="pt_9") == "AUTH_TOKEN_REVOKED"
    assert await code(service, id="pt_2", type="doctor") == "FORBIDDEN"
    answer = await service.start(sign(), data=b"[", headers={"Content-Type": "application/json"})
    assert answer.code == "INVALID_REQUEST"
    assert await code(service) == "RATE_LIMITED"
    answer = await service.start(sign(claims(id="pt_3")))
    assert (answer.status, answer.code) == (503, "VAPI_SESSION_FAILED")
    assert answer.details == DETAILS
    assert "Retry-After" not in answer.response.headers


@pytest.mark.redis
async def test_last_known_pause_continues_while_redis_is_down(
    serve: Serve, redis_server: RedisServer
) -> None:
    service = await serve(REDIS_URL=redis_server.url, REDIS_FAILURE="serve", METRICS_ENABLED="true")
    await reports(service, "up")
    await redis_server.execute("SET", PAUSE_KEY, "{}")

    async def is_counted() -> bool:  # without a request
        return await metric(service, "paused") == 1

    await eventually(is_counted)
    await redis_server.stop()
    await reports(service, "down")
    assert await code(service) == "VAPI_SESSION_FAILED"
    assert await metric(service, "paused") == 1
    await redis_server.start()

    async def has_ended() -> bool:
        return await code(service) is None

    await eventually(has_ended)
    assert await metric(service, "paused") == 0


async def test_setting_pauses_without_redis(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    service = await serve(SESSIONS_PAUSED="true", METRICS_ENABLED="true")
    answer = await service.start(sign())
    assert (answer.status, answer.code, answer.details) == (503, "VAPI_SESSION_FAILED", DETAILS)
    assert "Retry-After" not in answer.response.headers
    assert await metric(service, "paused") == 1
    assert "sessions are paused by SESSIONS_PAUSED" in caplog.messages
    assert (await service.ask("GET", "/readyz")).json["status"] == "ready"
