"""`python -m server check`: what it reports of each part."""

import asyncio
import json

import pytest
from aiohttp import web
from yarl import URL

from rig.issuer import Issuer, issuing, key, responding
from rig.redis_server import RedisServer, free_port
from rig.service import ASSISTANT_ID, ORG_ID, make_settings
from rig.vapi import vapi
from sandbox.vapi.app import ASSISTANT
from sandbox.vapi.behaviour import Behaviour, Fault
from server.cli.check import examine
from server.cli.report import Finding
from server.policies.pause import PAUSE_KEY, encode_pause
from server.proof import public_jwk
from tests import pems
from tests.conftest import Serve
from tests.pems import PROOF

CHECKED = {"VAPI_CHECK_SECONDS": "30"}


async def finding(name: str, service: str | None = None, **variables: str) -> Finding:
    """Return the finding of one part."""
    findings, _ = await examine(make_settings(**variables), URL(service) if service else None)
    (found,) = [each for each in findings if each.name == name]
    return found


def at(issuer: Issuer) -> dict[str, str]:
    """Let a server that answers everything alike stand in for Vapi."""
    return {**CHECKED, "VAPI_BASE_URL": f"http://127.0.0.1:{issuer.port}"}


# --- Vapi ------------------------------------------------------------------------------------


def status(number: int) -> Behaviour:
    return Behaviour(Fault.STATUS, status=number)


@pytest.mark.parametrize(
    ("fault", "start", "advice"),
    [
        (status(400), "400: ", "VAPI_ASSISTANT_ID is malformed"),
        (status(401), "401: ", "VAPI_API_KEY is rejected"),
        (status(403), "403: ", "VAPI_API_KEY has no access"),
        (status(404), "404: ", "VAPI_ASSISTANT_ID is unknown"),
        (status(429), "429: ", "VAPI_CHECK_SECONDS"),
        (status(302), "302: ", "VAPI_BASE_URL"),
        (status(500), "500: ", "status.vapi.ai"),
        (Behaviour(Fault.HANG), "no answer: timeout", "VAPI_BASE_URL"),
        (Behaviour(Fault.JUNK), "no answer: the answer is not HTTP", "VAPI_BASE_URL"),
        (Behaviour(Fault.HUGE), "no answer: more than 16777216 bytes", "VAPI_BASE_URL"),
    ],
    ids=lambda value: f"{value.fault} {value.status}" if isinstance(value, Behaviour) else None,
)
async def test_vapi_is_asked_once_and_each_status_has_its_advice(
    fault: Behaviour, start: str, advice: str
) -> None:
    async with vapi(fault) as stand_in:
        timeout = "0.1" if fault.fault is Fault.HANG else "2"
        variables = {**CHECKED, "VAPI_BASE_URL": stand_in.url, "VAPI_TIMEOUT_SECONDS": timeout}
        found = await finding("vapi", **variables)
        assert len(stand_in.requests) == 1
    assert found.ok is False
    assert found.details.startswith(start)
    assert advice in found.details


async def test_assistants_that_fail_are_named() -> None:
    async with vapi() as stand_in:
        variables = {**CHECKED, "VAPI_BASE_URL": stand_in.url}
        sound = Finding("vapi", True, "200: VAPI_API_KEY is accepted and the assistant exists")
        listed = f"one:{ASSISTANT_ID}"
        assert await finding("vapi", **variables, VAPI_ASSISTANTS=listed) == sound
        listed += f", two:x, three:{ASSISTANT_ID[:-1]}4"
        found = await finding("vapi", **variables, VAPI_ASSISTANTS=listed)
        two, three = found.details.split("; three: ")
        assert (found.ok, two[:9], three[:4]) == (False, "two: 400:", "404:")
        requests = stand_in.requests
        off = await finding("vapi", **{**variables, "VAPI_CHECK_SECONDS": "0"})
        assert off == Finding("vapi", True, "not checked: VAPI_CHECK_SECONDS is 0")
        assert stand_in.requests == requests


@pytest.mark.parametrize(
    ("plan", "is_open"),
    [
        (None, True),
        ({"controlEnabled": False}, True),
        ({"listenEnabled": True}, True),
        ({"listenAuthenticationEnabled": False}, True),
        ({"listenEnabled": False}, False),
        ({"listenAuthenticationEnabled": True}, False),
    ],
)
async def test_an_assistant_that_anybody_can_listen_to_is_a_warning(
    plan: dict[str, bool] | None, is_open: object
) -> None:
    async with vapi() as stand_in:
        stand_in.app[ASSISTANT].monitor_plan = plan
        variables = {"VAPI_BASE_URL": stand_in.url, "VAPI_ASSISTANTS": f"nurse:{ASSISTANT_ID}"}
        findings, warnings = await examine(make_settings(**CHECKED, **variables))
    assert findings[1].ok
    names = "VAPI_ASSISTANT_ID and nurse"
    start = f"{names}: whoever knows the id of a call can listen to it; set monitorPlan."
    assert [each.startswith(start) for each in warnings] == [True] * bool(is_open)


@pytest.mark.parametrize(("org_id", "ok"), [(ORG_ID, True), ("", True), ("another", False)])
async def test_another_organization_than_the_assistants_fails(org_id: str, ok: object) -> None:
    async with vapi() as stand_in:
        variables = {**CHECKED, "VAPI_BASE_URL": stand_in.url}
        found = await finding("vapi", **variables, VAPI_ORG_ID=org_id)
    assert found.ok is ok
    assert ("VAPI_ORG_ID is not the organization of the assistant" in found.details) is not ok


async def test_a_body_that_is_no_assistant_fails_and_an_empty_one_does_not() -> None:
    async with issuing() as issuer:
        issuer.respond = responding(b"<html>captive portal</html>")
        found = await finding("vapi", **at(issuer))
        assert found.ok is False
        assert found.details.startswith("no answer: the body is not an assistant; ")
        issuer.respond = responding(b"")
        assert (await finding("vapi", **at(issuer))).ok


async def test_at_most_eight_assistants_are_asked_at_once() -> None:
    open_requests, most = 0, 0

    async def respond(_: web.Request) -> web.StreamResponse:
        nonlocal open_requests, most
        open_requests += 1
        most = max(most, open_requests)
        await asyncio.sleep(0.01)
        open_requests -= 1
        return web.Response(status=404)

    async with issuing() as issuer:
        issuer.respond = respond
        many = ", ".join(f"n{number}:{number}" for number in range(30))
        found = await finding("vapi", **at(issuer), VAPI_ASSISTANTS=many)
    assert found.details.count("404") == issuer.fetches == 31
    assert most == 8


# --- keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"JWT_SECRET_PREVIOUS": "p" * 32}, "JWT_SECRET and JWT_SECRET_PREVIOUS"),
        ({"JWT_SECRET": "", "JWT_PUBLIC_KEY": pems.public(pems.P256)}, "JWT_PUBLIC_KEY"),
    ],
    ids=["two secrets", "public key"],
)
async def test_configured_keys_are_sound(variables: dict[str, str], names: str) -> None:
    assert await finding("keys", **variables) == Finding(
        "keys", True, f"{names} of the configuration"
    )


async def test_keys_of_a_provider() -> None:
    async with issuing(key("one"), key("next", "ES384")) as issuer:
        variables = {**issuer.variables, "JWT_ISSUER": "us"}
        usable = make_settings(**{**variables, "JWT_ALGORITHMS": "ES256"})
        findings, warnings = await examine(usable)
        assert findings[2] == Finding("keys", True, "JWT_JWKS_URL has keys for JWT_ALGORITHMS")
        assert [each for each in warnings if "a key is not used" in each] == [
            'JWT_JWKS_URL: a key is not used: "next" (no algorithm of it is one of JWT_ALGORITHMS)'
        ]
        found = await finding("keys", **{**variables, "JWT_ALGORITHMS": "RS256"})
        assert found.ok is False
        assert "JWT_JWKS_URL, the network and JWT_ALGORITHMS" in found.details
        await issuer.go_down()
        found = await finding("keys", **variables)
        assert "no usable keys: the connection failed: Connection refused; " in found.details
        variables |= {"JWT_JWKS_URL": "https://id.test/jwks", "HTTPS_PROXY": "http://127.0.0.1:1"}
        found = await finding("keys", **variables)
    assert "no usable keys: the proxy cannot be connected to; " in found.details


async def test_the_keys_of_proofs_are_named_by_their_ids() -> None:
    kid = public_jwk(pems.P256)["kid"]
    details = f"signed with key {kid}; keys published: 1"
    assert await finding("proof", **PROOF) == Finding("proof", True, details)


# --- Redis -----------------------------------------------------------------------------------


async def test_without_redis() -> None:
    found = await finding("redis")
    assert found.ok
    assert "revocation is not possible" in found.details


@pytest.mark.redis
async def test_redis_and_its_outage(redis_server: RedisServer) -> None:
    variables = {"REDIS_URL": redis_server.url}
    assert await finding("redis", **variables) == Finding("redis", True, "answers")
    await redis_server.execute("ACL", "SETUSER", "default", "-mget")
    found = await finding("redis", **variables)
    assert (found.ok, found.details[:7]) == (False, "rejects")
    await redis_server.stop()
    found = await finding("redis", **variables)
    assert found.ok is False
    assert "does not answer (ConnectionRefusedError): check REDIS_URL" in found.details
    paused = await finding("paused", **variables)
    assert paused == Finding("paused", None, "not known: Redis does not answer")


@pytest.mark.redis
@pytest.mark.parametrize(
    ("command", "error"),
    [("REPLICAOF 127.0.0.1 1", "READONLY"), ("CONFIG SET maxmemory 1", "OOM")],
)
async def test_redis_that_cannot_be_written(
    redis_server: RedisServer, command: str, error: str
) -> None:
    await redis_server.execute(*command.split())
    found = await finding("redis", REDIS_URL=redis_server.url)
    assert found.ok is False
    assert f"cannot be written ({error})" in found.details


@pytest.mark.redis
async def test_a_pause_fails(redis_server: RedisServer) -> None:
    variables = {"REDIS_URL": redis_server.url}
    assert await finding("paused", **variables) == Finding(
        "paused", True, "sessions are not paused"
    )
    for until, reason, end in ((None, "", "without an end"), (4e9, "drill", "2096-10-02T07:06:40")):
        await redis_server.execute("SET", PAUSE_KEY, encode_pause(until, reason))
        found = await finding("paused", **variables)
        assert found.ok is False
        assert end in found.details
        assert (" (drill); `resume` ends the pause" in found.details) == bool(reason)
    found = await finding("paused", **variables, SESSIONS_PAUSED="true")
    assert found == Finding("paused", False, "SESSIONS_PAUSED is true: all sessions are refused")


# --- the list of calls -----------------------------------------------------------------------


async def test_the_list_of_calls_is_read_with_the_key() -> None:
    assert await finding("calls") == Finding("calls", True, "off: PROOF_KEY is not set")
    not_checked = Finding("calls", True, "not checked: VAPI_CHECK_SECONDS is 0")
    assert await finding("calls", **PROOF) == not_checked
    async with vapi() as stand_in:
        variables = {**PROOF, "VAPI_BASE_URL": stand_in.url, "CALL_MONITOR": "report"}
        found = await finding("calls", **variables)
        assert found == Finding("calls", True, "the list of calls can be read with VAPI_API_KEY")
        found = await finding("calls", **variables, VAPI_API_KEY="another")
        assert (found.ok, found.details[-3:]) == (False, "401")
        stand_in.behave(Behaviour(Fault.HANG))
        found = await finding("calls", **variables, VAPI_TIMEOUT_SECONDS="0.1")
        assert (found.ok, found.details[-7:]) == (False, "timeout")


# --- the running service ---------------------------------------------------------------------


async def test_the_running_service_is_asked(serve: Serve) -> None:
    running = await serve()
    ready = Finding("service", True, "ready")
    assert await finding("service", running.url) == ready
    assert await finding("service", PORT=str(running.port)) == ready


@pytest.mark.parametrize(
    ("status", "body", "ok", "details"),
    [
        (200, {"status": "ready", "parts": {"vapi": "up", "calls": "off"}}, True, "ready"),
        (
            200,
            {"status": "degraded", "parts": {"vapi": "down", "keys": "ready", "audit": "blocked"}},
            False,
            "degraded: vapi down, audit blocked",
        ),
        (503, {"status": "shutting down", "parts": {"vapi": "up"}}, False, "shutting down"),
        (200, {"status": "\x1b[31m", "parts": {"x" * 999: "down"}}, False, "\\x1b[31m: xxx"),
        (404, {"status": "no"}, False, "status 404, and not this service's answer"),
        (200, [], False, "status 200, and not this service's answer"),
    ],
)
async def test_parts_that_are_not_sound_fail(
    status: int, body: object, ok: object, details: str
) -> None:
    async with issuing() as issuer:
        issuer.respond = responding(json.dumps(body).encode(), status)
        found = await finding("service", f"http://127.0.0.1:{issuer.port}/behind/")
    assert found.ok is ok
    assert found.details.startswith(details)
    assert len(found.details) < 300
    assert str(issuer.port) not in found.details


async def test_a_service_that_does_not_run_is_a_line_and_no_failure() -> None:
    nothing = Finding("service", None, "does not run here: nothing listens at its address")
    assert await finding("service", f"http://127.0.0.1:{free_port()}") == nothing
    assert await finding("service", PORT=str(free_port())) == nothing
    found = await finding("service", PORT="0")
    assert found == Finding("service", None, "not checked: PORT is 0; give --service")
    found = await finding("service", "http://nowhere.test")
    assert found.ok is False
    assert "the name cannot be resolved" in found.details
    assert "nowhere" not in found.details
