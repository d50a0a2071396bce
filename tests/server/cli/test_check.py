"""`python -m server check`: what it reports of Vapi, the keys, Redis and the configuration."""

import json

import pytest

from rig.issuer import issuing, key
from rig.redis_server import RedisServer
from rig.service import ASSISTANT_ID, PRIVATE_KEY, make_settings
from rig.vapi import vapi
from sandbox.vapi.behaviour import Behaviour, Fault
from server.cli.check import examine
from server.cli.main import main
from server.cli.report import Finding
from server.proof import public_jwk
from tests import pems


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
        (Behaviour(Fault.HANG), False, "no answer: ", "VAPI_BASE_URL"),
        (Behaviour(Fault.JUNK), False, "no answer: ", "VAPI_BASE_URL"),
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


async def test_unreachable_jwks() -> None:
    async with issuing() as issuer:
        await issuer.go_down()
        assert not (await finding("keys", **{**issuer.variables, "JWT_ISSUER": "us"})).ok


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
    assert "REDIS_URL" in found.details


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


async def test_the_keys_of_proofs_are_named_by_their_ids() -> None:
    proof = {
        "PROOF_KEY": pems.private(pems.P256),
        "PROOF_ISSUER": "https://sessions.test",
        "PROOF_AUDIENCE": "tools",
    }
    found = await finding("proof", **proof)
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
