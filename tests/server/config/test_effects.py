"""Every setting takes effect: few services, each with many settings."""

import asyncio
import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from aiohttp import ClientSession, web

from rig.issuer import Issuer, hang, issuing, key
from rig.process import ALONE, launch, run, started
from rig.redis_server import RedisServer, free_port
from rig.service import (
    ASSISTANT_ID,
    ORG_ID,
    PATH,
    PRIVATE_KEY,
    PUBLIC_KEY,
    SECRET,
    VARIABLES,
    claims,
    make_settings,
    running,
    sign,
)
from rig.vapi import make_vapi, vapi
from rig.waiting import eventually, until
from rig.wire import head
from sandbox.vapi.behaviour import Behaviour, Fault
from server.config import Settings, load_settings
from server.policies.revocations import KEY_PREFIX, PatientNames
from tests import pems
from tests.conftest import Command
from tests.dpop import PUBLIC_URL, App
from tests.egress import Authority, proxying, serving_tls
from tests.revocation_keys import token_key
from tests.server.config.test_settings import LIMITS

PREVIOUS = "the-previous-secret-of-the-tests-" * 2
ORIGIN = "https://app.clinic.example"
HASH_KEY = "an-audit-hash-key-of-the-tests-32"

OTHER_ASSISTANT = "55555555-5555-4555-8555-555555555555"

NAMES = {item.name.upper() for item in fields(Settings)}
UNVERIFIED: Any = {"verify_signature": False}

BY_SECRET = {
    "VAPI_API_KEY": PRIVATE_KEY,
    "VAPI_ASSISTANT_ID": ASSISTANT_ID,
    "VAPI_ASSISTANTS": f"other:{OTHER_ASSISTANT}",
    "VAPI_ASSISTANT_CLAIM": "assistants",
    "VAPI_CREDENTIAL": "session_token",
    "VAPI_ORG_ID": ORG_ID,
    "VAPI_TOKEN_TTL_SECONDS": "600",
    "VAPI_ALLOWED_ORIGINS": f"{ORIGIN}, https://b.example",
    "VAPI_BASE_URL": "",  # the stand-in
    "VAPI_CHECK_SECONDS": "0.1",
    "JWT_SECRET": SECRET,
    "JWT_SECRET_PREVIOUS": PREVIOUS,
    "JWT_ALGORITHMS": "HS512",
    "JWT_ISSUER": "we, us",
    "JWT_AUDIENCE": "voice, chat",
    "JWT_LEEWAY_SECONDS": "250",
    "JWT_DPOP": "accept",
    "PUBLIC_URL": PUBLIC_URL,
    "JWT_MAX_LIFETIME_SECONDS": "1000",
    "JWT_PATIENT_ID_CLAIM": "user.id",
    "JWT_ROLE_CLAIM": "roles",
    "JWT_PATIENT_ROLE": "member",
    "JWT_REQUIRED_SCOPE": "start",
    "JWT_CONSENT_CLAIM": "consents",
    "CONSENT_REQUIRED": "voice@2",
    "JWT_REQUIRED_CLAIMS": "azp=voice|app",
    "JWT_REQUIRED_TYPE": "at+jwt",
    "TRUSTED_PROXIES": "127.0.0.0/8, 192.0.2.0/24",
    "MAX_BODY_BYTES": "100",
    "RATE_LIMIT": "3/day",
    "PROOF_KEY": pems.private(pems.P256).replace("\n", "\\n"),
    "PROOF_ISSUER": "https://sessions.clinic.example",
    "PROOF_AUDIENCE": "tools",
    "CALL_MONITOR": "report",  # tests/server/calls has the effects
    "CALL_MONITOR_SECONDS": "3600",
    "CALL_LIMITS": "active:1, minutes:30/day",
    "CALL_OVERRIDES": "variableValues.patientProof",  # tests/server/cli/test_calls.py
    "CORS_ALLOWED_ORIGINS": ORIGIN,
    "METRICS_ENABLED": "true",
    "DOCS_ENABLED": "true",
    "AUDIT_HASH_KEY": HASH_KEY,
    "HOST": "127.0.0.1",
    "PORT": "",  # a free one
    "SHUTDOWN_GRACE_SECONDS": "1",
}


class Client:
    """Sends requests to a process."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self.url = url
        self._session = session

    async def start(self, token: str, **request: Any) -> tuple[int, dict[str, Any]]:
        """Request a session; return the status and the body."""
        headers = {"Authorization": f"Bearer {token}", **request.pop("headers", {})}
        async with self._session.post(self.url + PATH, headers=headers, **request) as response:
            return response.status, await response.json()

    async def code(self, token: str, **request: Any) -> str | None:
        """Request a session; return the code of the error, or None."""
        _, body = await self.start(token, **request)
        code: str | None = body.get("error", {}).get("code")
        return code

    async def get(self, path: str) -> tuple[int, str]:
        async with self._session.get(self.url + path) as response:
            return response.status, await response.text()

    async def preflight(self, origin: str) -> str | None:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        async with self._session.options(self.url + PATH, headers=headers) as response:
            return response.headers.get("Access-Control-Allow-Origin")


def patient(
    number: int = 1,
    secret: str = SECRET,
    algorithm: str = "HS512",
    typ: str = "at+jwt",
    **more: Any,
) -> str:
    """Sign a token for `BY_SECRET`; a value of `...` omits the claim."""
    now = claims()["iat"]
    own = {"iss": "us", "aud": "chat", "iat": now, "exp": now + 900, "scope": "start", "azp": "app"}
    own["consents"] = ["voice@2"]
    patient_claims = {"id": ..., "type": ..., "user": {"id": f"pt_{number}"}, "roles": ["member"]}
    return sign(claims(**{**own, **patient_claims, **more}), secret, algorithm, typ=typ)


async def test_settings_with_a_secret(tmp_path: Path) -> None:
    port = free_port()
    async with vapi() as stand_in, ClientSession() as session:
        variables = {**BY_SECRET, "VAPI_BASE_URL": stand_in.url, "PORT": str(port)}
        async with started(ALONE, tmp_path, variables) as served:
            assert served.url == f"http://127.0.0.1:{port}"
            client = Client(served.url, session)
            await check_credential(client)
            await check_tokens(client)
            assert await client.code(patient(50), data=b"x" * 101) == "PAYLOAD_TOO_LARGE"
            codes = [await client.code(patient(51)) for _ in range(4)]
            assert codes == [None, None, None, "RATE_LIMITED"]
            assert await client.preflight(ORIGIN) == ORIGIN
            assert await client.preflight("https://other.example") is None
            assert (await client.get("/metrics"))[0] == 200
            assert (await client.get("/docs"))[0] == 200
            requests = len(stand_in.requests)
            await until(lambda: len(stand_in.requests) >= requests + 2)
            forwarded = {"X-Forwarded-For": "203.0.113.7, 192.0.2.1"}
            assert (await client.start(patient(60), headers=forwarded))[0] == 200
        ended = await served.terminate()
    last = json.loads(ended.out.splitlines()[-1])
    assert (last["client"], last["peer"]) == ("203.0.113.7", "127.0.0.1")
    assert last["patient"] == hmac.digest(HASH_KEY.encode(), b"pt_60", "sha256").hex()


async def check_credential(client: Client) -> None:
    """Check what a session contains: the Vapi token and the proof."""
    status, body = await client.start(patient())
    assert status == 200, body
    data = body["data"]
    assert (data["credentialType"], data["assistantId"]) == ("session_token", ASSISTANT_ID)
    assert data["patientContext"]["id"] == "pt_1"
    issued = jwt.decode(data["apiKey"], PRIVATE_KEY, algorithms=["HS256"])
    assert issued["orgId"] == ORG_ID
    assert issued["exp"] - issued["iat"] == 600
    restrictions = issued["token"]["restrictions"]
    assert restrictions["allowedOrigins"] == [ORIGIN, "https://b.example"]
    proof = jwt.decode(
        data["patientProof"],
        pems.P256.public_key(),
        algorithms=["ES256"],
        audience="tools",
        issuer="https://sessions.clinic.example",
    )
    assert proof["sub"] == "pt_1"


async def check_tokens(client: Client) -> None:
    """Check which tokens are accepted."""
    now = claims()["iat"]
    expected: list[tuple[str, str | None]] = [
        (patient(2, secret=PREVIOUS), None),
        (patient(2, algorithm="HS256"), "AUTH_TOKEN_INVALID"),
        (patient(2, iss="them"), "AUTH_TOKEN_INVALID"),
        (patient(2, aud=["other", "voice"]), None),
        (patient(2, aud="other"), "AUTH_TOKEN_INVALID"),
        (patient(3, exp=now - 200, iat=now - 900), None),
        (patient(3, exp=now - 300, iat=now - 900), "AUTH_TOKEN_EXPIRED"),
        (patient(3, exp=now + 1001), "AUTH_TOKEN_INVALID"),
        (patient(3, user=..., id="pt_3"), "INVALID_PATIENT_CONTEXT"),
        (patient(3, roles=["patient"], type="patient"), "FORBIDDEN"),
        (patient(3, scope="stop"), "INSUFFICIENT_SCOPE"),
        (patient(4, consents=["voice@1"]), "CONSENT_REQUIRED"),
        # The stand-in does not know this assistant.
        (patient(4, assistants="other"), "VAPI_SESSION_FAILED"),
        (patient(3, azp="chat"), "AUTH_TOKEN_INVALID"),
        (patient(3, typ="JWT"), "AUTH_TOKEN_INVALID"),
    ]
    for token, code in expected:
        assert await client.code(token) == code, jwt.decode(token, options=UNVERIFIED)
    app = App()
    bound = patient(4, cnf=app.confirmation)
    assert await client.code(bound) == "AUTH_TOKEN_INVALID"
    assert await client.code(bound, headers=app.headers(bound)) is None


BY_PUBLIC_KEY = {
    "VAPI_PUBLIC_API_KEY": PUBLIC_KEY,
    "JWT_SECRET": "",
    "JWT_PUBLIC_KEY": pems.public(pems.RSA) + pems.public(pems.P256),
    "VAPI_CHECK_SECONDS": "30",
    "VAPI_TIMEOUT_SECONDS": "0.2",
    "SESSION_BUDGET_SECONDS": "1",
    "RATE_LIMIT": "off",
    "LOG_LEVEL": "ERROR",
    "LOG_FORMAT": "console",
}


async def test_settings_with_public_keys(tmp_path: Path) -> None:
    port = free_port()
    async with vapi(Behaviour(Fault.HANG)) as stand_in, ClientSession() as session:
        variables = {**VARIABLES, **BY_PUBLIC_KEY, "VAPI_BASE_URL": stand_in.url}
        process = await launch(tmp_path, {**variables, "PORT": str(port)}, *ALONE)
        client = Client(f"http://127.0.0.1:{port}", session)
        try:
            await eventually(accepts_connections(port))
            token = sign(claims(), pems.P256, "ES256")
            # The check ends before the budget does, so the verdict is Vapi's.
            assert await client.code(token) == "VAPI_SESSION_FAILED"
            assert await client.code(token, data=trickle()) == "REQUEST_TIMEOUT"
            stand_in.behave(Behaviour())
            await eventually(is_granted(client, sign(claims(), pems.RSA, "RS256")))
            _, body = await client.start(token)
            assert body["data"]["apiKey"] == PUBLIC_KEY
        finally:
            process.terminate()
            _, err = await process.communicate()
    lines = err.decode().splitlines()
    assert lines
    assert all(" ERROR " in line and not line.startswith("{") for line in lines), lines


async def trickle() -> AsyncIterator[bytes]:
    """Start a body and never finish it."""
    yield b"{"
    await asyncio.Event().wait()


def accepts_connections(port: int) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    return check


def is_granted(client: Client, token: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await client.code(token) is None

    return check


BY_JWKS = {
    "JWT_JWKS_URL": "",  # the test's provider
    "JWKS_CACHE_SECONDS": "0.2",
    "JWKS_STALE_SECONDS": "0.8",
    "JWKS_TIMEOUT_SECONDS": "0.2",
    "REDIS_URL": "",  # the test's server
    "REDIS_FAILURE": "serve",
    "AUDIT_HASH_KEY_PREVIOUS": "p" * 32,
    "RATE_LIMIT": "off",
    "SHUTDOWN_GRACE_SECONDS": "0.2",
    "SHUTDOWN_DELAY_SECONDS": "0.5",
    "SESSION_BUDGET_SECONDS": "30",
}


@pytest.mark.redis
async def test_settings_with_jwks_and_redis(tmp_path: Path, redis_server: RedisServer) -> None:
    async with issuing(key("one")) as issuer, ClientSession() as session:
        variables = {**VARIABLES, **BY_JWKS, **issuer.variables, "REDIS_URL": redis_server.url}
        async with started(ALONE, tmp_path, variables) as served:
            client = Client(served.url, session)
            await check_revocation(client, issuer, redis_server)
            await check_keys(client, issuer)
            async with unfinished_request(served.url, issuer.keys[0].token()):
                began = monotonic()
                async with asyncio.timeout(10):  # far less than the budget
                    assert (await served.terminate()).status == 0
                assert monotonic() - began > 0.5


@asynccontextmanager
async def unfinished_request(url: str, token: str) -> AsyncIterator[None]:
    """Keep a request in flight whose body never arrives."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    lines = ("Content-Type: application/json", "Content-Length: 2", "Expect: 100-continue")
    writer.write(head(*lines, token=token))
    try:
        assert (await reader.readline()).startswith(b"HTTP/1.1 100")
        yield
    finally:
        writer.transport.abort()


async def check_revocation(client: Client, issuer: Issuer, redis_server: RedisServer) -> None:
    """Check that Redis is asked, and what happens without it."""
    revoked = issuer.keys[0].token(claims(iss="https://issuer.example/", jti="t1"))
    assert await client.code(revoked) is None
    await redis_server.execute("SET", token_key("t1"), "1")
    assert await client.code(revoked) == "AUTH_TOKEN_REVOKED"
    hashed = PatientNames(b"p" * 32).current("pt_9")
    await redis_server.execute("SET", KEY_PREFIX + hashed, "1")
    token = issuer.keys[0].token(claims(iss="https://issuer.example/", id="pt_9"))
    assert await client.code(token) == "AUTH_TOKEN_REVOKED"
    await redis_server.stop()
    await eventually(is_granted(client, issuer.keys[0].token()))


async def check_keys(client: Client, issuer: Issuer) -> None:
    """Check when keys are fetched, and how long they are used."""
    fetches = issuer.fetches
    await until(lambda: issuer.fetches >= fetches + 2)  # the cache expires
    issuer.respond = hang  # each fetch ends by its time limit, far below the budget
    fetches = issuer.fetches
    await until(lambda: issuer.fetches >= fetches + 2)
    await eventually(has_code(client, issuer.keys[0].token(), "AUTH_UNAVAILABLE"))  # stale
    issuer.respond = None
    await eventually(is_granted(client, issuer.keys[0].token()))


def has_code(client: Client, token: str, code: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await client.code(token) == code

    return check


PAUSED = {
    "JWKS_CACHE_SECONDS": "600",
    "JWKS_COOLDOWN_SECONDS": "600",
    "SESSIONS_PAUSED": "true",
    "MAX_CONNECTIONS": "2",
    "KEEPALIVE_SECONDS": "0.5",
}


async def test_settings_of_a_paused_service() -> None:
    async with (
        issuing(key("one")) as issuer,
        running(make_settings(**PAUSED, **issuer.variables)) as served,
        ClientSession() as session,
    ):
        client, token = Client(served.url, session), issuer.keys[0].token()
        _, body = await client.start(token)
        assert body["error"]["details"] == "Voice sessions are paused"
        for kid in ("two", "three", "four"):
            assert await client.code(key(kid).token()) == "AUTH_TOKEN_INVALID"
        async with unfinished_request(served.url, token), unfinished_request(served.url, token):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            async with asyncio.timeout(10):  # far less than an idle connection may last
                assert await reader.read() == b""  # beside the unfinished ones
            writer.close()
    assert issuer.fetches == 2


BEHIND_A_PROXY = {
    "HTTPS_PROXY": "http://clinic:pass-of-the-proxy@127.0.0.1:{}",
    "NO_PROXY": "direct.test",
    "SSL_CERT_FILE": "",  # the test's private CA
}


async def test_settings_behind_a_proxy(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, one = web.Application(), key("one")
    keys = {"keys": [one.jwk()]}

    async def serve_keys(_: web.Request) -> web.Response:
        return web.json_response(keys)

    provider.router.add_get("/{path:.*}", serve_keys)
    authority = Authority(tmp_path)
    async with (
        serving_tls(make_vapi(), authority.server("api.test")) as vapi_port,
        serving_tls(provider, authority.server("id.test")) as provider_port,
        proxying(api=vapi_port, id=provider_port) as proxy,
    ):
        chosen = {
            "https_proxy": BEHIND_A_PROXY["HTTPS_PROXY"].format(proxy.port),
            "NO_PROXY": BEHIND_A_PROXY["NO_PROXY"],
            "SSL_CERT_FILE": str(authority.bundle),
        }
        lines = [f"{name}={value}\n" for name, value in chosen.items()]
        (tmp_path / ".env").write_text("".join(lines))
        (tmp_path / ".netrc").write_text("default login thief password secret\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        variables = {
            "VAPI_BASE_URL": "https://api.test",
            "VAPI_CHECK_SECONDS": "30",
            "JWT_SECRET": "",
            "JWT_JWKS_URL": "https://id.test/jwks",
            "JWT_ISSUER": "https://id.test",
            "LOG_LEVEL": "DEBUG",
        }
        checked = await command("check", "--json", **variables)
        assert checked.status == 0
        async with running(load_settings()) as served, ClientSession() as session:
            client = Client(served.url, session)
            await eventually(is_granted(client, one.token(claims(iss="https://id.test"))))
        assert set(proxy.targets) == {"api.test:443", "id.test:443"}
        direct = await command("check", "--json", NO_PROXY="id.test")
        document = json.loads(direct.out.splitlines()[-1])  # below an audit line
        parts = {part["part"]: part["ok"] for part in document["parts"]}
        assert (parts["vapi"], parts["keys"]) == (True, False)
    assert "pass-of-the-proxy" not in f"{checked.out}{checked.err}{direct.out}{direct.err}"
    credentials = b64encode(b"clinic:pass-of-the-proxy").decode()
    assert all(f"Proxy-Authorization: Basic {credentials}\r\n" in head for head in proxy.heads)


def test_every_setting_is_in_a_service() -> None:
    in_a_service = BY_SECRET.keys() | BY_PUBLIC_KEY.keys() | BY_JWKS.keys() | PAUSED.keys()
    assert in_a_service | BEHIND_A_PROXY.keys() == NAMES


INVALID = {
    **{name: values[0] for name, _, values in LIMITS},
    "VAPI_ASSISTANT_CLAIM": "a\nb",
    "JWT_PUBLIC_KEY": "x",
    "JWT_JWKS_URL": "http://id.example",
    "JWT_ALGORITHMS": "RS 256",
    "PROOF_KEY": "x",
    "PROOF_ISSUER": "a\nb",
    "PROOF_AUDIENCE": "a\nb",
    "CALL_OVERRIDES": "a\nb",
    "NO_PROXY": "a\nb",
    "SSL_CERT_FILE": "/nonexistent/ca.pem",
}


async def test_a_process_reports_a_fault_of_every_setting_at_once(tmp_path: Path) -> None:
    assert INVALID.keys() == NAMES
    ended = await run(tmp_path, INVALID)
    first, *faults, last = ended.err.splitlines()
    assert (ended.status, ended.out, first) == (78, "", "Invalid configuration:")
    assert [fault.split(":")[0] for fault in faults] == sorted(NAMES)
    assert "config.example.env" in last
