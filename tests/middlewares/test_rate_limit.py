"""The rate limit of each patient."""

import pytest

from middlewares.context import ACCESS, PATIENT_ID, Access
from middlewares.errors import error_handler
from middlewares.rate_limit import rate_limit
from tests.middlewares.support import Alone, send_raw


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [(-3.0, 1), (0.0, 1), (1.0, 1), (1.001, 2), (86400.0, 86400)],
)
async def test_request_over_the_limit_gets_whole_seconds(
    alone: Alone, wait: float, seconds: int
) -> None:
    async def acquire(_: str) -> float | None:
        return wait

    given = {PATIENT_ID: "pt_1"}
    client = await alone(error_handler(), rate_limit(acquire=acquire), given=given)
    response = await send_raw(client)
    assert (response.status, response.code) == (429, "RATE_LIMITED")
    assert response.headers["Retry-After"] == str(seconds)
    assert response.details == f"Try again in {seconds} seconds"


@pytest.mark.parametrize(("wait", "status"), [(None, 200), (1.5, 429)])
async def test_request_that_was_counted_elsewhere_is_not_counted_again(
    alone: Alone, wait: float | None, status: int
) -> None:
    async def acquire(_: str) -> float | None:
        raise AssertionError

    given = {PATIENT_ID: "pt_7", ACCESS: Access(revoked=False, counted=True, wait=wait)}
    client = await alone(error_handler(), rate_limit(acquire=acquire, has_access=True), given=given)
    assert (await send_raw(client)).status == status


async def test_request_without_patient_never_passes(alone: Alone) -> None:
    async def acquire(_: str) -> float | None:
        raise AssertionError

    response = await send_raw(await alone(error_handler(), rate_limit(acquire=acquire)))
    assert response.code == "INTERNAL_ERROR"
