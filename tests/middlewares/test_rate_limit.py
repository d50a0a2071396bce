"""The rate limit of each patient."""

import json

import pytest

from middlewares.context import ACCESS, PATIENT_ID, Access
from middlewares.errors import error_handler
from middlewares.rate_limit import rate_limit
from tests.middlewares.support import Alone, send_raw


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [(0.0, 1), (0.001, 1), (1.0, 1), (1.001, 2), (59.5, 60), (86400.0, 86400), (-3.0, 1)],
)
async def test_request_over_the_limit_gets_whole_seconds(
    alone: Alone, wait: float, seconds: int
) -> None:
    async def acquire(_: str) -> float | None:
        return wait

    given = {PATIENT_ID: "pt_1"}
    client = await alone(error_handler(), rate_limit(acquire=acquire), given=given)
    async with client.post("/") as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == str(seconds)
        error = (await response.json())["error"]
        assert error["code"] == "RATE_LIMITED"
        assert error["details"] == f"Try again in {seconds} seconds"


@pytest.mark.parametrize(("wait", "status"), [(None, 200), (1.5, 429)])
async def test_request_that_was_counted_elsewhere_is_not_counted_again(
    alone: Alone, wait: float | None, status: int
) -> None:
    async def acquire(_: str) -> float | None:
        raise AssertionError

    given = {PATIENT_ID: "pt_7", ACCESS: Access(revoked=False, counted=True, wait=wait)}
    client = await alone(error_handler(), rate_limit(acquire=acquire, has_access=True), given=given)
    async with client.post("/") as response:
        assert response.status == status


async def test_request_without_patient_never_passes(alone: Alone) -> None:
    async def acquire(_: str) -> float | None:
        raise AssertionError

    response = await send_raw(await alone(error_handler(), rate_limit(acquire=acquire)))
    assert json.loads(response.body)["error"]["code"] == "INTERNAL_ERROR"
