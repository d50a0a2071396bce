"""`python -m server check`: what it reports of Vapi, the keys, Redis and the configuration."""

import asyncio
import json
import re

import pytest
from aiohttp import web
from yarl import URL

from rig.issuer import issuing, key, responding
from rig.redis_server import RedisServer, free_port
from rig.service import ASSISTANT_ID, ORG_ID, PRIVATE_KEY, make_settings
from rig.vapi import vapi
from sandbox.vapi.app import ASSISTANT
from sandbox.vapi.behaviour import Behaviour, Fault
from server.cli.check import examine
from server.cli.main import main
from server.cli.report import Finding
from server.policies.pause import PAUSE_KEY, encode_pause
from server.proof import public_jwk
from tests import pems
from tests.conftest import Serve


async def finding(name: str, **variables: str) -> Finding:
    """Return the finding of one part."""
    findings, _ = await examine(make_settings(**variables))
    (found,) = [each for each in findings if each.name == name]
    return found


def status(number: int) -> Behaviour:
    return Behaviour(Fault.STATUS, status=number)


@pytest.mark.parametrize(
    ("fault", "ok", "start", "advice"),
    [
        (Behaviour(), True, "200: ", "is accepted"),
        (status(400), False, "400: ", "VAPI_ASSISTANT_ID is malformed"),
        (status(401), False, "401: ", "VAPI_API_KEY is rejected"),
        (status(403), False, "403: ", "VAPI_API_KEY has no access"),
        (status(404), False, "404: ", "VAPI_ASSISTANT_ID is unknown"),
        (status(429), False, "429: ", "VAPI_CHECK_SECONDS"),
        (status(302), False, "302: ", "VAPI_BASE_URL"),
        (status(418), False, "418: ", "VAPI_BASE_URL"),
        (status(500), False, "500: ", "status.vapi.ai"),
        (status(503), False, "503: ", "status.vapi.ai"),
        (Behaviour(Fault.HANG), False, "no answer: timeout", "VAPI_BASE_URL"),
        (Behaviour(Fault.JUNK), False, "no answer: the answer is not HTTP", "VAPI_BASE_URL"),
        (Behaviour(Fault.HUGE), False, "no answer: more than 16777216 bytes", "VAPI_BASE_URL"),
    ],
    ids=lambda value: f"{value.fault} {value.status}" if isinstance(value, Behaviour) else None,
)
async def test_vapi_is_asked_once_and_each_status_has_its_advice(
    fault: Behaviour, ok: object, start: str, advice: str
) -> None:
    async with vapi(fault) as stand_in:
        timeout = "0.1" if fault.fault is Fault.HANG else "2"
        found = await finding(
            "vapi",
            VAPI_BASE_URL=stand_in.url,
            VAPI_CHECK_SECONDS="30",
            VAPI_TIMEOUT_SECONDS=timeout,
        )
        assert len(stand_in.requests) == 1
    assert found.ok is ok
    assert found.details.startswith(start)
    assert advice in found.details
    assert PRIVATE_KEY not in found.details


async def test_vapi_is_not_asked_when_that_is_turned_off() -> None:
    async with vapi() as stand_in:
        found = await finding("vapi", VAPI_BASE_URL=stand_in.url, VAPI_CHECK_SECONDS="0")
        assert stand_in.requests == []
    assert found == Finding("vapi", True, "not checked: VAPI_CHECK_SECONDS is 0")


@pytest.mark.parametrize(
    ("variables", "details"),
    [
        ({}, "JWT_SECRET of the configuration"),
        (
            {"JWT_SECRET_PREVIOUS": "p" * 32},
            "JWT_SECRET and JWT_SECRET_PREVIOUS of the configuration",
        ),
        (
            {"JWT_SECRET": "", "JWT_PUBLIC_KEY": pems.public(pems.P256)},
            "JWT_PUBLIC_KEY of the configuration",
        ),
    ],
    ids=["secret", "two secrets", "public key"],
)
async def test_configured_keys_are_sound(variables: dict[str, str], details: str) -> None:
    assert await finding("keys", **variables) == Finding("keys", True, details)


async def test_jwks_with_a_usable_key() -> None:
    async with issuing() as issuer:
        assert (await finding("keys", **{**issuer.variables, "JWT_ISSUER": "us"})).ok


async def test_jwks_without_a_usable_key() -> None:
    async with issuing(key("rsa", "RS256")) as issuer:
        variables = {**issuer.variables, "JWT_ISSUER": "us", "JWT_ALGORITHMS": "ES256"}
        found = await finding("keys", **variables)
    assert not found.ok
    assert "JWT_JWKS_URL" in found.details
    assert "JWT_ALGORITHMS" in found.details


async def test_the_cause_of_unreachable_keys_is_told() -> None:
    async with issuing() as issuer:
        await issuer.go_down()
        found = await finding("keys", **{**issuer.variables, "JWT_ISSUER": "us"})
        assert not found.ok
        assert "no usable keys: the connection failed: Connection refused; " in found.details
        found = await finding(
            "keys",
            JWT_SECRET="",
            JWT_JWKS_URL="https://id.test/jwks",
            JWT_ISSUER="us",
            HTTPS_PROXY="http://user:secret@127.0.0.1:1",
        )
    assert "no usable keys: the proxy cannot be connected to; " in found.details


async def test_without_redis() -> None:
    found = await finding("redis")
    assert found.ok
    assert "revocation is not possible" in found.details


@pytest.mark.redis
async def test_redis_that_answers(redis_server: RedisServer) -> None:
    assert (await finding("redis", REDIS_URL=redis_server.url)).ok


@pytest.mark.redis
async def test_unreachable_redis(redis_server: RedisServer) -> None:
    await redis_server.stop()
    found = await finding("redis", REDIS_URL=redis_server.url)
    assert not found.ok
    assert "does not answer (ConnectionRefusedError): check REDIS_URL" in found.details
    found = await finding("paused", REDIS_URL=redis_server.url)
    assert found == Finding("paused", None, "not known: Redis does not answer")


@pytest.mark.redis
async def test_a_pause_fails(redis_server: RedisServer) -> None:
    variables = {"REDIS_URL": redis_server.url}
    assert (await finding("paused", **variables)).ok
    for until, reason, details in (
        (None, "", "all sessions are refused without an end; `resume` ends the pause"),
        (4e9, "drill", "until 2096-10-02T07:06:40.000Z (drill); `resume`"),
    ):
        await redis_server.execute("SET", PAUSE_KEY, encode_pause(until, reason))
        found = await finding("paused", **variables)
        assert not found.ok
        assert details in found.details


async def test_a_pause_by_the_setting_fails() -> None:
    found = await finding("paused", SESSIONS_PAUSED="true")
    assert found == Finding("paused", False, "SESSIONS_PAUSED is true: all sessions are refused")


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
    assert not found.ok
    assert f"cannot be written ({error})" in found.details


@pytest.mark.redis
async def test_redis_that_rejects_the_revocation_lookup(redis_server: RedisServer) -> None:
    await redis_server.execute("ACL", "SETUSER", "default", "-mget")
    assert not (await finding("redis", REDIS_URL=redis_server.url)).ok


PROOF = {
    "PROOF_KEY": pems.private(pems.P256),
    "PROOF_ISSUER": "https://sessions.test",
    "PROOF_AUDIENCE": "tools",
}


async def test_the_keys_of_proofs_are_named_by_their_ids() -> None:
    found = await finding("proof", **PROOF)
    assert found.ok
    assert public_jwk(pems.P256)["kid"] in found.details


def test_warnings_are_reported_and_leave_the_exit_status(
    configured: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = "JWT_AUDIANCE: unknown; did you mean JWT_AUDIENCE?"
    configured.setenv("JWT_AUDIANCE", "voice")
    configured.setenv("VAPI_ASSISTANT_ID", "assistant")
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"warn  warning        {warning}" in lines
    assert main(["check", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["ok"] is True
    assert [text.split(":")[0] for text in document["warnings"]] == [
        "JWT_AUDIANCE",
        "VAPI_ASSISTANT_ID",
    ]
    assert warning in document["warnings"]
    assert err == ""


def test_sound_configuration_exits_with_0(
    configured: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", "configuration"],
        ["ok", "vapi"],
        ["ok", "keys"],
        ["ok", "redis"],
        ["ok", "paused"],
        ["ok", "calls"],
        ["-", "service"],
    ]


def test_failing_part_exits_with_1(
    configured: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configured.setenv("VAPI_CHECK_SECONDS", "30")
    configured.setenv("VAPI_BASE_URL", "http://127.0.0.1:1")
    assert main(["check", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert {part["part"]: part["ok"] for part in answer["parts"]} == {
        "configuration": True,
        "vapi": False,
        "keys": True,
        "redis": True,
        "paused": True,
        "calls": True,
        "service": None,
    }


async def test_assistants_that_fail_are_named() -> None:
    async with vapi() as stand_in:
        variables = {
            "VAPI_BASE_URL": stand_in.url,
            "VAPI_CHECK_SECONDS": "30",
            "VAPI_ASSISTANTS": f"one:{ASSISTANT_ID}, two:x, three:{ASSISTANT_ID[:-1]}4",
        }
        found = await finding("vapi", **variables)
        assert not found.ok
        two, three = found.details.split("; three: ")
        assert two.startswith("two: 400: ")
        assert three.startswith("404: ")
        found = await finding("vapi", **variables | {"VAPI_ASSISTANTS": f"one:{ASSISTANT_ID}"})
        assert found == Finding(
            "vapi", True, "200: VAPI_API_KEY is accepted and the assistant exists"
        )


async def test_keys_that_are_not_used_are_warnings() -> None:
    async with issuing(key("one"), key("next", "ES384")) as issuer:
        variables = {**issuer.variables, "JWT_ISSUER": "us"}
        _, warnings = await examine(make_settings(**{**variables, "JWT_ALGORITHMS": "ES256"}))
        assert [each for each in warnings if "a key is not used" in each] == [
            'JWT_JWKS_URL: a key is not used: "next" (no algorithm of it is one of JWT_ALGORITHMS)'
        ]
        _, warnings = await examine(make_settings(**{**variables, "JWT_ALGORITHMS": "RS256"}))
        assert sum("a key is not used" in each for each in warnings) == 2


# --- what Vapi says of its assistant ---------------------------------------------------------


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
        variables = {"VAPI_BASE_URL": stand_in.url, "VAPI_CHECK_SECONDS": "30"}
        findings, warnings = await examine(make_settings(**variables))
    assert findings[1].ok
    start = "VAPI_ASSISTANT_ID: whoever knows the id of a call can listen to it"
    assert [each.startswith(start) for each in warnings] == [True] * bool(is_open)


@pytest.mark.parametrize(("org_id", "ok"), [(ORG_ID, True), ("", True), ("another", False)])
async def test_another_organization_than_the_assistants_fails(org_id: str, ok: object) -> None:
    async with vapi() as stand_in:
        variables = {"VAPI_BASE_URL": stand_in.url, "VAPI_CHECK_SECONDS": "30"}
        found = await finding("vapi", **variables, VAPI_ORG_ID=org_id)
    assert found.ok is ok
    assert ("VAPI_ORG_ID is not the organization of the assistant" in found.details) is not ok


async def test_a_body_that_is_no_assistant_fails() -> None:
    async with issuing() as issuer:  # answers everything with its keys
        issuer.respond = responding(b"<html>captive portal</html>")
        where = f"http://127.0.0.1:{issuer.port}"
        found = await finding("vapi", VAPI_BASE_URL=where, VAPI_CHECK_SECONDS="30")
    assert not found.ok
    assert found.details.startswith("no answer: the body is not an assistant; ")


async def test_an_empty_body_is_as_good_as_the_status_alone() -> None:
    async with issuing() as issuer:
        issuer.respond = responding(b"")
        where = f"http://127.0.0.1:{issuer.port}"
        assert (await finding("vapi", VAPI_BASE_URL=where, VAPI_CHECK_SECONDS="30")).ok


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
        found = await finding(
            "vapi",
            VAPI_BASE_URL=f"http://127.0.0.1:{issuer.port}",
            VAPI_CHECK_SECONDS="30",
            VAPI_ASSISTANTS=", ".join(f"n{number}:{number}" for number in range(30)),
        )
    assert found.details.count("404") == issuer.fetches == 31
    assert most == 8


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


async def service(url: str, **variables: str) -> Finding:
    findings, _ = await examine(make_settings(**variables), URL(url))
    return findings[-1]


async def test_the_running_service_is_asked(serve: Serve) -> None:
    running = await serve()
    assert await service(running.url) == Finding("service", True, "ready")
    assert await finding("service", PORT=str(URL(running.url).port)) == Finding(
        "service", True, "ready"
    )


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
        found = await service(f"http://127.0.0.1:{issuer.port}/behind/")
    assert found.ok is ok
    assert found.details.startswith(details)
    assert len(found.details) < 300
    assert str(issuer.port) not in found.details


async def test_a_service_that_does_not_run_is_a_line_and_no_failure() -> None:
    nothing = "does not run here: nothing listens at its address"
    assert await service(f"http://127.0.0.1:{free_port()}") == Finding("service", None, nothing)
    assert await finding("service", PORT=str(free_port())) == Finding("service", None, nothing)
    found = await finding("service", PORT="0")
    assert found == Finding("service", None, "not checked: PORT is 0; give --service")
    found = await service("http://nowhere.test")
    assert not found.ok
    assert "the name cannot be resolved" in found.details
    assert "nowhere" not in found.details


def test_the_address_of_the_service_is_not_printed(
    configured: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--service", "http://user:secret@127.0.0.1:1/path"]) == 0
    out = capsys.readouterr().out
    assert "does not run here" in out
    assert not {"secret", "127.0.0.1", "path"} & set(re.split(r"[^\w.]", out))


@pytest.mark.parametrize("address", ["secret.example", "ftp://secret", "http://", "http://[secret"])
def test_an_address_that_is_none_is_refused_and_not_repeated(
    configured: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["check", "--service", address])
    assert caught.value.code == 2
    assert "give the service's address" in (err := capsys.readouterr().err)
    assert "secret" not in err
