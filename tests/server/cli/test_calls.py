"""`calls` and `end` against the stand-in."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from time import time

import pytest

from middlewares.audit import patient_name
from middlewares.context import rfc3339
from rig.process import Ended
from rig.redis_server import RedisServer
from rig.service import VARIABLES
from rig.vapi import StandIn, vapi
from sandbox.vapi.call_list import CALL_LIST, CALLS
from server.cli.main import main
from tests.calls import CALL_VARIABLES, call, long_calls, proof

Run = Callable[..., Awaitable[Ended]]

HASH_KEY = "an-audit-hash-key-of-the-tests-32"


@pytest.fixture
def run(unconfigured: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in a thread, with these variables."""

    async def run(variables: Mapping[str, str], *arguments: str) -> Ended:
        for name, value in variables.items():
            unconfigured.setenv(name, value)
        try:
            status = await asyncio.to_thread(main, arguments)
        except SystemExit as ended:
            status = ended.code  # type: ignore[assignment]  # a number in this program
        return Ended(status, *capfd.readouterr())

    return run


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with vapi(calls=long_calls()) as running:
        yield running


def variables(stand_in: StandIn) -> dict[str, str]:
    return {**VARIABLES, **CALL_VARIABLES, "VAPI_BASE_URL": stand_in.url}


async def test_list(run: Run, stand_in: StandIn) -> None:
    token = proof("pt_1")
    known = await call(stand_in, token)
    reused = await call(stand_in, token)
    unknown = await call(stand_in, None)
    altered = await call(stand_in, proof("pt_2"), firstMessage="Hello, I am somebody else")
    stand_in.app[CALL_LIST].junk = True
    stand_in.app[CALL_LIST].transcript = "a marked secret"
    ended = await run(variables(stand_in), "calls", "--json")
    assert ended.status == 0, ended.err
    rows = {row["call_id"]: row for row in json.loads(ended.out)}
    seen = {each: (rows[each]["patient"], rows[each]["flags"]) for each in rows}
    assert seen == {
        known: ("pt_1", []),
        reused: ("pt_1", ["reused"]),
        unknown: (None, ["unknown"]),
        altered: ("pt_2", ["altered"]),
    }
    table = await run({**variables(stand_in), "AUDIT_HASH_KEY": HASH_KEY}, "calls")
    assert "pt_1" not in table.out
    assert str(patient_name("pt_1", HASH_KEY.encode())) in table.out
    assert max(map(len, table.out.splitlines())) <= 80
    assert "a marked secret" not in ended.out + ended.err + table.out + table.err


async def test_end(run: Run, stand_in: StandIn) -> None:
    first, second = await call(stand_in, proof("pt_1")), await call(stand_in, proof("pt_2"))
    third, unknown = await call(stand_in, proof("pt_3")), await call(stand_in, None)
    by_patient = await run(variables(stand_in), "end", "--patient", "pt_1")
    assert (by_patient.status, by_patient.out) == (0, f"{first} ended\n")
    by_call = await run(variables(stand_in), "end", "--call", second)
    assert (by_call.status, by_call.out) == (0, f"{second} ended\n")
    all_known = await run(variables(stand_in), "end", "--all")
    assert (all_known.status, all_known.out) == (0, f"{third} ended\n")
    assert stand_in.app[CALLS].active == {unknown}
    actions = [json.loads(ended.err.splitlines()[-1]) for ended in (by_patient, by_call, all_known)]
    assert [(line["action"], line["patient"]) for line in actions] == [
        ("end", "pt_1"),
        ("end", "pt_2"),
        ("end", None),
    ]
    none = await run(variables(stand_in), "end", "--all")
    assert (none.status, none.out) == (0, "")
    ended = await run(variables(stand_in), "end", "--call", first)
    assert (ended.status, ended.out) == (0, f"{first} is not in progress\n")


async def test_calls_of_other_assistants_are_not_looked_at(
    run: Run, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.vapi.call_api._PAGE_BYTES", 2**18)
    monkeypatch.setattr("server.vapi.web_call._LARGE_BYTES", 2**17)
    now, earlier = time() - 5, time() - 9
    entry = {"id": "1", "type": "webCall", "status": "in-progress", "assistantId": "another"}
    large = {**entry, "id": "2", "artifact": {"transcript": "x" * 2**19}}
    stand_in.app[CALL_LIST].more = [
        {**each, "createdAt": rfc3339(when), "updatedAt": rfc3339(when)}
        for each, when in ((entry, now), (large, earlier))
    ]
    ended = await run(variables(stand_in), "calls", "--json")
    assert (ended.status, json.loads(ended.out)) == (0, [])
    assert "One call is too large to be read" in ended.err


async def test_ids_cannot_forge_a_line(run: Run, stand_in: StandIn) -> None:
    now = rfc3339(time())
    stand_in.app[CALL_LIST].more = [
        {"id": "1\nb ended", "type": "webCall", "createdAt": now, "updatedAt": now}
    ]
    table = await run(variables(stand_in), "calls")
    ended = await run(variables(stand_in), "end", "--call", "1\nb ended")
    assert (ended.status, ended.out) == (1, "1\\nb ended could not be ended\n")
    assert "b ended" not in table.out.splitlines()


async def test_failures(run: Run, stand_in: StandIn) -> None:
    without = await run({**variables(stand_in), "PROOF_KEY": ""}, "calls")
    assert (without.status, "set PROOF_KEY" in without.err) == (1, True)
    stand_in.app[CALL_LIST].status = 429
    refused = await run(variables(stand_in), "end", "--all")
    assert (refused.status, refused.out) == (1, "")
    assert "vapi_admin" not in refused.err


@pytest.mark.redis
async def test_pause_ends_calls(run: Run, stand_in: StandIn, redis_server: RedisServer) -> None:
    known, unknown = await call(stand_in, proof("pt_1")), await call(stand_in, None)
    settings = {**variables(stand_in), "REDIS_URL": redis_server.url}
    ended = await run(settings, "pause", "--end-calls")
    assert (ended.status, ended.out) == (0, f"paused until `resume`\n{known} ended\n")
    assert stand_in.app[CALLS].active == {unknown}


@pytest.mark.redis
async def test_revoke_ends_calls(run: Run, stand_in: StandIn, redis_server: RedisServer) -> None:
    first, other = await call(stand_in, proof("pt_1")), await call(stand_in, proof("pt_2"))
    settings = {**variables(stand_in), "REDIS_URL": redis_server.url}
    ended = await run(settings, "revoke", "--patient", "pt_1", "--end-calls")
    assert (ended.status, ended.out.splitlines()[-1]) == (0, f"{first} ended")
    assert stand_in.app[CALLS].active == {other}
    wrong = await run(settings, "revoke", "--jti", "t1", "--end-calls")
    assert wrong.status == 2
