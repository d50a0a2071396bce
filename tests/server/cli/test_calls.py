"""`calls` and `end` against the stand-in."""

import json
from collections.abc import AsyncIterator
from time import time

import msgspec
import pytest

from middlewares.audit import patient_name
from middlewares.context import rfc3339
from rig.redis_server import RedisServer
from rig.vapi import StandIn, vapi
from sandbox.vapi.call_list import CALL_LIST, CALLS
from tests.calls import CALL_VARIABLES, call, long_calls, proof
from tests.conftest import Command

HASH_KEY = "an-audit-hash-key-of-the-tests-32"


@pytest.fixture
async def stand_in(configured: pytest.MonkeyPatch) -> AsyncIterator[StandIn]:
    """Let the commands ask a stand-in whose calls last for longer than a test."""
    async with vapi(calls=long_calls()) as running:
        for name, value in {**CALL_VARIABLES, "VAPI_BASE_URL": running.url}.items():
            configured.setenv(name, value)
        yield running


async def test_list(command: Command, stand_in: StandIn) -> None:
    token = proof("pt_1")
    known = await call(stand_in, token)
    reused = await call(stand_in, token)
    unknown = await call(stand_in, None)
    altered = await call(stand_in, proof("pt_2"), firstMessage="Hello, I am somebody else")
    stand_in.app[CALL_LIST].junk = True
    stand_in.app[CALL_LIST].transcript = "a marked secret"
    ended = await command("calls", "--json")
    assert ended.status == 0, ended.err
    rows = {row["call_id"]: row for row in json.loads(ended.out)}
    seen = {each: (rows[each]["patient"], rows[each]["flags"]) for each in rows}
    assert seen == {
        known: ("pt_1", []),
        reused: ("pt_1", ["reused"]),
        unknown: (None, ["unknown"]),
        altered: ("pt_2", ["altered"]),
    }
    table = await command("calls", AUDIT_HASH_KEY=HASH_KEY)
    assert "pt_1" not in table.out
    assert str(patient_name("pt_1", HASH_KEY.encode())) in table.out
    assert max(map(len, table.out.splitlines())) <= 80
    assert "a marked secret" not in ended.out + ended.err + table.out + table.err
    allowed = "variableValues.patientProof, firstMessage"
    ended = await command("calls", "--json", CALL_OVERRIDES=allowed)
    flags = {row["call_id"]: row["flags"] for row in json.loads(ended.out)}
    assert (flags[altered], flags[unknown]) == ([], ["unknown"])


async def test_end(command: Command, stand_in: StandIn) -> None:
    first, second = await call(stand_in, proof("pt_1")), await call(stand_in, proof("pt_2"))
    third, unknown = await call(stand_in, proof("pt_3")), await call(stand_in, None)
    by_patient = await command("end", "--patient", "pt_1")
    assert (by_patient.status, by_patient.out) == (0, f"{first} ended\n")
    by_call = await command("end", "--call", second)
    assert (by_call.status, by_call.out) == (0, f"{second} ended\n")
    all_known = await command("end", "--all")
    assert (all_known.status, all_known.out) == (0, f"{third} ended\n")
    assert stand_in.app[CALLS].active == {unknown}
    actions = [json.loads(ended.err.splitlines()[-1]) for ended in (by_patient, by_call, all_known)]
    assert [(line["action"], line["patient"]) for line in actions] == [
        ("end", "pt_1"),
        ("end", "pt_2"),
        ("end", None),
    ]
    none = await command("end", "--all")
    assert (none.status, none.out) == (0, "")
    ended = await command("end", "--call", first)
    assert (ended.status, ended.out) == (0, f"{first} is not in progress\n")


async def test_calls_of_other_assistants_are_not_looked_at(
    command: Command, stand_in: StandIn
) -> None:
    now, earlier = time() - 5, time() - 9
    entry = {"id": "1", "type": "webCall", "status": "in-progress", "assistantId": "another"}
    deep = msgspec.Raw(b'{"a":' * 5000 + b"1" + b"}" * 5000)
    unreadable = {**entry, "id": "2", "artifact": deep}
    stand_in.app[CALL_LIST].more = [
        {**each, "createdAt": rfc3339(when), "updatedAt": rfc3339(when)}
        for each, when in ((entry, now), (unreadable, earlier))
    ]
    ended = await command("calls", "--json")
    assert (ended.status, json.loads(ended.out)) == (0, [])
    assert "One call is too large to be read" in ended.err


async def test_ids_cannot_forge_a_line(command: Command, stand_in: StandIn) -> None:
    now = rfc3339(time())
    stand_in.app[CALL_LIST].more = [
        {"id": "1\nb ended", "type": "webCall", "createdAt": now, "updatedAt": now}
    ]
    table = await command("calls")
    ended = await command("end", "--call", "1\nb ended")
    assert (ended.status, ended.out) == (1, "1\\nb ended could not be ended\n")
    assert "b ended" not in table.out.splitlines()


async def test_failures(command: Command, stand_in: StandIn) -> None:
    without = await command("calls", PROOF_KEY="")
    assert (without.status, "set PROOF_KEY" in without.err) == (1, True)
    stand_in.app[CALL_LIST].status = 429
    refused = await command("end", "--all", PROOF_KEY=CALL_VARIABLES["PROOF_KEY"])
    assert (refused.status, refused.out) == (1, "")
    assert "Vapi's calls cannot be read: " in refused.err
    assert "vapi_admin" not in refused.err


@pytest.mark.redis
async def test_pause_ends_calls(
    command: Command, stand_in: StandIn, redis_server: RedisServer
) -> None:
    known, unknown = await call(stand_in, proof("pt_1")), await call(stand_in, None)
    ended = await command("pause", "--end-calls", REDIS_URL=redis_server.url)
    assert (ended.status, ended.out) == (0, f"paused until `resume`\n{known} ended\n")
    assert stand_in.app[CALLS].active == {unknown}


@pytest.mark.redis
async def test_revoke_ends_calls(
    command: Command, stand_in: StandIn, redis_server: RedisServer
) -> None:
    first, other = await call(stand_in, proof("pt_1")), await call(stand_in, proof("pt_2"))
    arguments = ("--patient", "pt_1", "--end-calls")
    ended = await command("revoke", *arguments, REDIS_URL=redis_server.url)
    assert (ended.status, ended.out.splitlines()[-1]) == (0, f"{first} ended")
    assert stand_in.app[CALLS].active == {other}
    wrong = await command("revoke", "--jti", "t1", "--end-calls")
    assert (wrong.status, wrong.err) == (2, "--end-calls needs --patient\n")
