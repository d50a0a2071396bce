"""The stand-in's list of calls, its control address, and what can be wrong with them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from rig.service import PRIVATE_KEY
from rig.vapi import StandIn, vapi
from sandbox.vapi.call_list import CALL_LIST, CALLS
from tests.calls import call, long_calls, proof


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with vapi(calls=long_calls()) as running:
        yield running


async def listed(stand_in: StandIn, query: str = "") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {PRIVATE_KEY}"}
    async with (
        ClientSession(headers=headers) as client,
        client.get(f"{stand_in.url}/call{query}") as answer,
    ):
        return answer.status, await answer.json()


async def control(stand_in: StandIn, call_id: str, kind: str = "end-call") -> int:
    async with (
        ClientSession() as client,
        client.post(f"{stand_in.url}/{call_id}/control", json={"type": kind}) as answer,
    ):
        return answer.status


async def test_control_address_ends_a_call_once(stand_in: StandIn) -> None:
    call_id = await call(stand_in)
    assert await control(stand_in, call_id, "say") == 200
    assert stand_in.app[CALLS].active == {call_id}
    assert [await control(stand_in, call_id) for _ in range(2)] == [200, 200]
    assert stand_in.app[CALLS].active == set()
    assert await control(stand_in, "unknown") == 404


async def test_deaf_control_address_ends_nothing(stand_in: StandIn) -> None:
    call_id = await call(stand_in)
    stand_in.app[CALL_LIST].deaf = True
    assert await control(stand_in, call_id) == 200
    assert stand_in.app[CALLS].active == {call_id}


async def test_list_can_omit_overrides_and_updates(stand_in: StandIn) -> None:
    call_id = await call(stand_in, proof())
    await control(stand_in, call_id)
    faults = stand_in.app[CALL_LIST]
    faults.omit_overrides = faults.lose_updates = True
    _, (entry,) = await listed(stand_in)
    assert "assistantOverrides" not in entry
    assert entry["updatedAt"] == entry["createdAt"]


async def test_list_can_redact_overrides(stand_in: StandIn) -> None:
    await call(stand_in, proof())
    stand_in.app[CALL_LIST].redact_overrides = True
    _, (entry,) = await listed(stand_in)
    assert entry["assistantOverrides"] == {"variableValues": {"patientProof": "[REDACTED]"}}


async def test_list_can_lag(stand_in: StandIn) -> None:
    await call(stand_in)
    stand_in.app[CALL_LIST].lag = 60
    assert await listed(stand_in) == (200, [])


@pytest.mark.parametrize("query", ["?limit=1001", "?limit=x", "?updatedAtGe=never"])
async def test_query_that_vapi_refuses(stand_in: StandIn, query: str) -> None:
    await call(stand_in)
    status, _ = await listed(stand_in, query)
    assert status == 400
