"""The whole loop: session, call at the stand-in, signed webhook, tool server with the verifier."""

import asyncio
import hmac
import json
from io import BytesIO
from time import time
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, structs

from rig.service import make_settings
from sandbox.tool_call import main
from sandbox.tools.proofs import BadProof, bad_proof
from sandbox.tools.webhook import _signature as sign_webhook
from sandbox.tools.webhook import make_webhook
from sandbox.vapi.calls import Call, Monitor, Transport
from tests.sandbox.support import SECRET, Sandbox

KINDS = ["public_key", "session_token"]


async def start_session(sandbox: Sandbox, kind: str = "public_key") -> dict[str, Any]:
    _, answer = await sandbox.start(await sandbox.token("valid"), kind)
    session: dict[str, Any] = answer["data"]
    return session


async def start_call(sandbox: Sandbox, session: dict[str, Any], **variables: str) -> str:
    """Start a call at the stand-in; return its id."""
    body = {
        "assistantId": session["assistantId"],
        "assistantOverrides": {"variableValues": variables},
    }
    headers = {"Authorization": f"Bearer {session['apiKey']}", "Origin": sandbox.url}
    url = f"{sandbox.config['vapiUrl']}/call/web"
    async with sandbox.client.post(url, json=body, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["id"])


async def call_tool(sandbox: Sandbox, call_id: str) -> Any:
    """Make the call call the tool; return the result."""
    status, found = await sandbox.lab("tool-calls", {"callId": call_id})
    assert (status, found["status"]) == (200, 200)
    [result] = json.loads(found["text"])["results"]
    [tool_call] = found["webhook"]["message"]["toolCallList"]
    assert result.pop("toolCallId") == tool_call["id"]
    return json.loads(result["result"]) if "result" in result else result["error"]


async def bad(sandbox: Sandbox, kind: str, proof: str, patient: str) -> str:
    _, answer = await sandbox.lab("proofs", {"kind": kind, "proof": proof, "patient": patient})
    return str(answer["proof"])


async def test_the_tool_knows_the_patient(sandbox: Sandbox) -> None:
    for kind in KINDS:
        session = await start_session(sandbox, kind)
        call_id = await start_call(sandbox, session, patientProof=session["patientProof"])
        for _ in range(2):  # a call may call its tools several times
            result = await call_tool(sandbox, call_id)
            assert result == {"patient": "pt_1001", "results": "Cholesterol 182 mg/dL"}


async def test_call_with_other_variables_is_refused(sandbox: Sandbox) -> None:
    session = await start_session(sandbox)
    variables = {"patientProof": session["patientProof"], "patientId": "pt_1002"}
    result = await call_tool(sandbox, await start_call(sandbox, session, **variables))
    assert "overrides" in str(result)


@pytest.mark.parametrize("kind", KINDS)
async def test_attacks_are_refused_with_a_reason(sandbox: Sandbox, kind: str) -> None:
    session = await start_session(sandbox, kind)
    good = session["patientProof"]
    old = await bad(sandbox, "old", "", "pt_1001")
    forged = await bad(sandbox, "other_patient", good, "pt_1002")
    errors = {
        name: await call_tool(sandbox, await start_call(sandbox, session, **variables))
        for name, variables in {
            "old": {"patientProof": old},
            "other patient": {"patientProof": forged},
            "none": {},
            "text": {"patientProof": "pt_1002"},
        }.items()
    }
    assert errors == {
        "old": "window: The call was not created while the proof was valid",
        "other patient": "signature: The signature of the proof does not verify",
        "none": "missing: The call carries no patient proof",
        "text": "malformed: The proof is not a compact JWS, or is too long",
    }


async def test_a_proof_is_refused_in_a_second_call(sandbox: Sandbox) -> None:
    session = await start_session(sandbox)
    first, second = [
        await start_call(sandbox, session, patientProof=session["patientProof"]) for _ in range(2)
    ]
    assert (await call_tool(sandbox, first))["patient"] == "pt_1001"
    assert await call_tool(sandbox, second) == "replayed: Another call has used this proof"


async def test_tool_calls_stay_on_this_machine(sandbox: Sandbox) -> None:
    call_id = await start_call(sandbox, await start_session(sandbox))
    for body in (
        {"callId": "no such call"},
        {"callId": call_id, "url": "https://tools.example/"},
        {"callId": 1},
        {},
    ):
        assert (await sandbox.lab("tool-calls", body))[0] == 400, body


async def test_unreachable_tool_server(sandbox: Sandbox) -> None:
    call_id = await start_call(sandbox, await start_session(sandbox))
    body = {"callId": call_id, "url": "http://127.0.0.1:1/"}
    status, text = await sandbox.lab("tool-calls", body)
    assert status == 502
    assert text.startswith("the tool server cannot be reached")


async def test_only_a_proof_can_be_changed(sandbox: Sandbox) -> None:
    for proof in ("", "a.b", "a.b.c", "a.!.c"):
        body = {"kind": "other_patient", "proof": proof, "patient": "pt_1002"}
        assert (await sandbox.lab("proofs", body))[0] == 400, proof


def test_without_key_there_is_no_old_proof() -> None:
    with pytest.raises(ValueError, match="PROOF_KEY is not set"):
        bad_proof(make_settings(), BadProof.OLD, proof="", patient="pt_1")


async def test_other_webhooks_and_bad_arguments(sandbox: Sandbox) -> None:
    url = f"http://127.0.0.1:{sandbox.companions.tools.getsockname()[1]}/webhook"

    async def send(message: object) -> tuple[int, Any]:
        body = msgspec.json.encode({"message": message})
        headers = sign_webhook(body, SECRET, time())
        async with sandbox.client.post(url, data=BytesIO(body), headers=headers) as answered:
            return answered.status, await answered.json()

    assert await send({"type": "status-update"}) == (200, {})
    assert (await send({"type": "x" * 2**20}))[0] == 413
    functions = [{"name": "read_lab_results", "arguments": "["}, {"name": "read", "arguments": {}}]
    calls = [{"id": str(n), "function": each} for n, each in enumerate(functions)]
    status, body = await send({"type": "tool-calls", "toolCallList": calls, "call": {"id": "1"}})
    assert status == 200
    bad, missing = body["results"]
    assert bad == {
        "toolCallId": "0",
        "name": "read_lab_results",
        "error": "The arguments are not a JSON object.",
    }
    assert missing["error"].startswith("missing: ")


async def test_unsigned_webhooks_are_refused(sandbox: Sandbox) -> None:
    url = f"http://127.0.0.1:{sandbox.companions.tools.getsockname()[1]}/webhook"
    webhook = make_webhook(CALL, "another secret")
    for headers in ({}, webhook.headers):
        async with sandbox.client.post(url, data=webhook.body, headers=headers) as answer:
            assert answer.status == 401
            assert (await answer.json())["error"].startswith("webhook: ")


CALL = Call(
    id="call-1",
    org_id="org-1",
    created_at="2027-01-15T08:00:00.000Z",
    updated_at="2027-01-15T08:00:00.000Z",
    assistant_id=UNSET,
    assistant_overrides={"variableValues": {"patientProof": "a.b.c", "name": "{{name}}"}},
    monitor=Monitor(listen_url="", control_url=""),
    transport=Transport(call_url=""),
    web_call_url="",
)


def test_webhook_is_as_vapi_sends_it() -> None:
    webhook = make_webhook(CALL, SECRET, now=1_800_000_000.5)
    signed = b"1800000000." + webhook.body
    assert webhook.headers == {
        "content-type": "application/json",
        "x-timestamp": "1800000000",
        "x-signature": hmac.new(SECRET.encode(), signed, "sha256").hexdigest(),
    }
    message = json.loads(webhook.body)["message"]
    [tool_call] = message["toolCallList"]
    [with_tool] = message["toolWithToolCallList"]
    assert message["type"] == "tool-calls"
    assert message["call"]["id"] == "call-1"
    assert message["call"]["createdAt"] == "2027-01-15T08:00:00.000Z"
    assert tool_call["function"] == {
        "name": "read_lab_results",
        "arguments": {"test": "cholesterol", "patientProof": "a.b.c"},
    }
    assert with_tool["toolCall"] == tool_call
    # The model sees the function alone.
    assert "patientProof" not in str(with_tool["function"])


def test_variable_without_value_stays_a_template() -> None:
    values: list[Any] = [{}, {"variableValues": None}, {"variableValues": {"other": "x"}}]
    for overrides in values:
        call = structs.replace(CALL, assistant_overrides=overrides)
        message = json.loads(make_webhook(call, SECRET).body)["message"]
        arguments = message["toolCallList"][0]["function"]["arguments"]
        assert arguments["patientProof"] == "{{patientProof}}"


async def test_command_calls_a_tool_server(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{sandbox.companions.tools.getsockname()[1]}/webhook"
    for arguments, response in (
        ("", '"result":"{\\"patient\\":\\"pt_1001\\"'),
        ("--patient pt_1003", '"result":"{\\"patient\\":\\"pt_1003\\"'),
        ("--proof none", '"error":"missing: '),
        ("--proof old", '"error":"window: '),
        ("--proof other_patient", '"error":"signature: '),
        ("--proof replayed", '"error":"replayed: '),
    ):
        command = [url, "--service", sandbox.url, *arguments.split()]
        assert await asyncio.to_thread(main, command) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith('200 {"results":[{')
        assert response in last


async def test_command_reports_what_went_wrong(sandbox: Sandbox) -> None:
    url = "http://127.0.0.1:1/"
    with pytest.raises(SystemExit, match="the tool server cannot be reached"):
        await asyncio.to_thread(main, [url, "--service", sandbox.url])
    with pytest.raises(SystemExit, match="Development mode cannot be reached"):
        await asyncio.to_thread(main, [url, "--service", "http://127.0.0.1:1"])
    with pytest.raises(SystemExit, match="tokens: 400"):
        await asyncio.to_thread(main, [url, "--service", sandbox.url, "--patient", "not an id"])
