"""The stand-in's two routes, through a real socket."""

from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

from sandbox.vapi.app import PROMPT
from sandbox.vapi.call_list import CALLS
from sandbox.vapi.call_request import ASSISTANT_OVERRIDES
from tests.sandbox.vapi import schemas
from tests.sandbox.vapi.conftest import Clock
from tests.sandbox.vapi.support import (
    ASSISTANT,
    ORG,
    ORIGIN,
    OTHER,
    PRIVATE,
    PUBLIC,
    Client,
    bearer,
    call_web,
    restricted,
    token,
    tokenless,
)

INVALID_KEY = (
    "Invalid Key. Hot tip, you may be using the private key instead of the public key,"
    " or vice versa."
)
TOKEN_MISSING = "JWT doesn't permit access. Hot tip, you may be missing `token` in your JWT."
NEED_EITHER = (
    "Couldn't Get Assistant. Need Either `assistant`, `assistantId`, `squad`, Or `squadId`."
)
UNKNOWN_ASSISTANT = f"Couldn't Get Assistant. `assistantId` {OTHER} Does Not Exist."
# Keys and tokens that neither route accepts.
INVALID_CREDENTIALS: list[tuple[str, int, str]] = [
    ("", 401, INVALID_KEY),
    ("rubbish", 401, INVALID_KEY),
    (restricted(exp=-1), 401, INVALID_KEY),
    (restricted(key=PUBLIC), 401, INVALID_KEY),
    (restricted(org="another"), 401, INVALID_KEY),
    (restricted(org=7), 401, INVALID_KEY),
    (restricted(tag="other"), 401, INVALID_KEY),
    (restricted(enabled=False), 401, INVALID_KEY),
    (tokenless(), 403, TOKEN_MISSING),
]


def conforms(value: Any, schema: dict[str, Any]) -> bool:
    """Check a value against a JSON Schema, formats included. Raises ValidationError."""
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)
    return True


@pytest.mark.parametrize("credential", [PRIVATE, token(tag="private")])
async def test_private_credential_reads_the_assistant(vapi: Client, credential: str) -> None:
    answer = await vapi.get(f"/assistant/{ASSISTANT}", headers=bearer(credential))
    assert answer.status == 200
    body = await answer.json()
    assert conforms(body, schemas.ASSISTANT)
    assert (body["id"], body["orgId"]) == (ASSISTANT, ORG)
    assert PROMPT in await answer.text()


async def test_assistant_refusals(vapi: Client) -> None:
    for credential, named, status, message in (
        *(
            (credential, ASSISTANT, status, text)
            for credential, status, text in INVALID_CREDENTIALS
        ),
        (PUBLIC, ASSISTANT, 401, INVALID_KEY),
        (restricted(), ASSISTANT, 401, INVALID_KEY),
        (PRIVATE, OTHER, 404, UNKNOWN_ASSISTANT),
        (PRIVATE, "nurse", 400, ["id must be a UUID"]),
    ):
        answer = await vapi.get(f"/assistant/{named}", headers=bearer(credential))
        body = await answer.json()
        assert conforms(body, schemas.ERROR)
        assert (answer.status, body["statusCode"], body["message"]) == (status, status, message)


async def test_unknown_path(vapi: Client) -> None:
    answer = await vapi.get("/nowhere")
    assert answer.status == 404
    assert (await answer.json())["error"] == "Not Found"


@pytest.mark.parametrize(
    ("credential", "kind"),
    [(PUBLIC, "public_key"), (token(), "session_token"), (restricted(), "session_token")],
)
async def test_call_is_created(vapi: Client, credential: str, kind: str) -> None:
    answer = await call_web(vapi, credential, Origin=ORIGIN)
    assert answer.status == 201
    call = await answer.json()
    assert conforms(call, schemas.CALL)
    assert (call["orgId"], call["assistantId"], call["assistantOverrides"]) == (ORG, ASSISTANT, {})
    assert call["transport"]["callUrl"] == call["webCallUrl"]
    assert call["webCallUrl"].startswith(str(vapi.make_url("/room/")))
    (kept,) = vapi.app[CALLS]
    assert (kept.credential_type, kept.origin) == (kind, ORIGIN)


async def test_stored_call_equals_the_answer(vapi: Client) -> None:
    overrides = {"variableValues": {"patientProof": "a.b.c"}, "firstMessage": "Hello"}
    answer = await call_web(
        vapi, PUBLIC, {"assistantId": ASSISTANT, "assistantOverrides": overrides}
    )
    call = await answer.json()
    assert call["assistantOverrides"] == overrides
    kept = vapi.app[CALLS].get(call["id"])
    assert kept is not None
    assert msgspec.to_builtins(kept.call) == call
    assert vapi.app[CALLS].get("another") is None


async def test_every_documented_field_is_accepted(vapi: Client) -> None:
    body = {
        "assistantId": ASSISTANT,
        "assistantVersion": "v3",
        "assistantOverrides": {},
        "roomDeleteOnUserLeaveEnabled": False,
        "metadata": {},
        "squadId": None,
    }
    answer = await call_web(vapi, PUBLIC, body)
    assert answer.status == 201
    assert (await answer.json())["transport"]["roomDeleteOnUserLeaveEnabled"] is False


async def test_unrestricted_token_allows_a_transient_assistant(vapi: Client) -> None:
    credential = token(allowedOrigins=[ORIGIN])
    answer = await call_web(vapi, credential, {"assistant": {"name": "own"}}, Origin=ORIGIN)
    call = await answer.json()
    assert conforms(call, schemas.CALL)
    assert "assistantId" not in call
    assert call["assistant"] == {"name": "own"}


CALL_REFUSALS: list[tuple[str, Any, int, Any]] = [
    *((each, None, status, text) for each, status, text in INVALID_CREDENTIALS),
    (PRIVATE, None, 401, INVALID_KEY),
    (token(tag="private"), None, 401, INVALID_KEY),
    (restricted(), {"assistantId": OTHER}, 403, f"Key doesn't allow assistantId '{OTHER}'"),
    (restricted(), {"assistantId": "x"}, 403, "Key doesn't allow assistantId 'x'"),
    (restricted(), {"assistant": {}}, 403, "Key doesn't allow transient assistant"),
    (
        restricted(allowTransientAssistant=True),
        {"assistant": {}},
        403,
        "Key doesn't allow transient assistant",
    ),
    (
        token(allowTransientAssistant=False),
        {"assistant": {}},
        403,
        "Key doesn't allow transient assistant",
    ),
    (
        restricted(allowedOrigins=["https://x.test"]),
        None,
        403,
        f"Key doesn't allow origin '{ORIGIN}'",
    ),
    (PUBLIC, {"assistantId": OTHER}, 400, UNKNOWN_ASSISTANT),
    (PUBLIC, {"assistantId": "nurse"}, 400, ["assistantId must be a UUID"]),
    (PUBLIC, {"assistantId": ASSISTANT.replace("-", "")}, 400, ["assistantId must be a UUID"]),
    (PUBLIC, {"assistantId": 7}, 400, ["assistantId must be a UUID"]),
    (restricted(), {}, 400, NEED_EITHER),
    (PUBLIC, {"assistantOverrides": {}}, 400, NEED_EITHER),
    (
        PUBLIC,
        {"assistantId": ASSISTANT, "customer": {}, "phoneNumber": {}},
        400,
        ["property customer should not exist", "property phoneNumber should not exist"],
    ),
    (
        PUBLIC,
        {"assistantId": "x", "assistantOverrides": {"firstMessageDelayMs": 1, "name": "x"}},
        400,
        [
            "assistantOverrides.property firstMessageDelayMs should not exist",
            "assistantId must be a UUID",
        ],
    ),
    (
        PUBLIC,
        {"assistantId": ASSISTANT, "assistantOverrides": {"variableValues": "x"}},
        400,
        ["assistantOverrides.variableValues must be an object"],
    ),
    (
        PUBLIC,
        {"assistant": "x", "assistantOverrides": "x"},
        400,
        [
            "nested property assistant must be either object or array",
            "nested property assistantOverrides must be either object or array",
        ],
    ),
    (PUBLIC, [], 400, "Expected `object`, got `array`"),
]


async def test_call_refusals(vapi: Client) -> None:
    for credential, body, status, message in CALL_REFUSALS:
        answer = await call_web(vapi, credential, body, Origin=ORIGIN)
        refusal = await answer.json()
        assert conforms(refusal, schemas.ERROR)
        found = (answer.status, refusal["statusCode"], refusal["message"])
        assert found == (status, status, message)
        assert len(vapi.app[CALLS]) == 0


async def test_empty_body_names_nothing(vapi: Client) -> None:
    answer = await vapi.post("/call/web", headers=bearer(PUBLIC))
    assert (answer.status, (await answer.json())["message"]) == (400, NEED_EITHER)


FIELDS = ["squad", "squadId", "squadOverrides", "workflow", "workflowId", "workflowOverrides"]


async def test_squads_and_workflows_are_refused_as_unknown(vapi: Client) -> None:
    for credential, name in product((PUBLIC, restricted()), FIELDS):
        for body in ({name: OTHER}, {"assistantId": ASSISTANT, name: OTHER}):
            answer = await call_web(vapi, credential, body)
            assert answer.status == 403
            assert (await answer.json())["message"].startswith("Stand-in: what Vapi does with ")


async def test_concurrency_limit(vapi: Client, clock: Clock) -> None:
    statuses = [(await call_web(vapi, PUBLIC)).status for _ in range(3)]
    refused = await call_web(vapi, PUBLIC)
    assert statuses == [201, 201, 201]
    assert refused.status == 400
    assert (await refused.json())["message"] == "Over Concurrency Limit"
    clock.now += 10
    assert (await call_web(vapi, PUBLIC)).status == 201


async def test_every_origin_may_read_the_answer(vapi: Client) -> None:
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    preflight = await vapi.options("/call/web", headers=headers)
    assert preflight.status == 204
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"]
    refused = await call_web(vapi, "rubbish")
    assert refused.headers["Access-Control-Allow-Origin"] == "*"


def test_page_lists_every_override() -> None:
    page = (Path(__file__).parents[3] / "docs" / "vapi.md").read_text()
    assert {name for name in ASSISTANT_OVERRIDES if f"`{name}`" not in page} == set()
