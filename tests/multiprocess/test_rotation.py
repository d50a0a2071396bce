"""The rotations of docs/operations.md under load: SIGHUP to gunicorn at each step."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import ClientSession, TCPConnector, web
from verify_patient import ProofError, verify_patient

from rig.issuer import ISSUER, issuing, make_key
from rig.process import ONE_WORKER, Running
from rig.service import PATH, PRIVATE_KEY, SECRET, claims, sign
from rig.waiting import eventually
from tests import pems
from tests.multiprocess.conftest import Start
from tests.tools.proofs import instant

NEW_SECRET = "the-next-secret-that-is-longer-than-32-bytes"
NEW_PRIVATE_KEY = "55555555-private-4555-8555-555555555555"
CLIENTS = 8
ENOUGH = 40
"""Requests between two steps: every client has sent some."""

Write = Callable[..., None]


@dataclass
class Load:
    """Clients that start sessions without a pause; `token` signs a token as the issuer does now."""

    url: str
    token: Callable[[], str]
    credentials: list[str] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def _run_client(self, client: ClientSession) -> None:
        while True:
            headers = {"Authorization": f"Bearer {self.token()}"}
            async with client.post(self.url, headers=headers) as response:
                body = await response.json()
            if response.status == 200:
                self.credentials.append(body["data"]["apiKey"])
                self.proofs.append(body["data"].get("patientProof"))
            else:
                self.failures.append(f"{response.status} {body['error']}")

    async def more(self) -> None:
        """Wait until the service has answered enough further requests, all of them granted."""
        target = len(self.credentials) + ENOUGH

        async def reached() -> bool:
            assert self.failures == []
            return len(self.credentials) >= target

        await eventually(reached, seconds=30)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with ClientSession(connector=TCPConnector(force_close=True)) as client:
            clients = [asyncio.create_task(self._run_client(client)) for _ in range(CLIENTS)]
            try:
                await self.more()
                yield
                await self.more()
            finally:
                for each in clients:
                    each.cancel()
                ends = await asyncio.gather(*clients, return_exceptions=True)
        assert [end for end in ends if not isinstance(end, asyncio.CancelledError)] == []


def load_on(service: Running, token: Callable[[], str]) -> Load:
    return Load(f"http://127.0.0.1:{service.port}{PATH}", token)


async def reload(service: Running) -> None:
    """Send SIGHUP; wait until no worker with the settings from before is left."""
    exited = len(service.log.matching("Worker exiting"))
    service.process.send_signal(signal.SIGHUP)

    async def replaced() -> bool:
        return len(service.log.matching("Worker exiting")) == exited + 1

    await eventually(replaced, seconds=30)


@pytest.fixture
def write_env(tmp_path: Path) -> Write:
    """Write the `.env` file of the service."""

    def write(**variables: str) -> None:
        lines = "".join(f"{name}={value}\n" for name, value in variables.items())
        (tmp_path / ".env").write_text(lines)

    return write


async def test_hmac_secret_is_rotated_without_a_failed_request(
    start: Start, write_env: Write
) -> None:
    write_env(JWT_SECRET=SECRET)
    service = await start(ONE_WORKER, JWT_SECRET="", RATE_LIMIT="off")
    signing = SECRET
    load = load_on(service, lambda: sign(key=signing))
    async with load.running():
        write_env(JWT_SECRET=NEW_SECRET, JWT_SECRET_PREVIOUS=SECRET)
        await reload(service)
        await load.more()
        signing = NEW_SECRET
        await load.more()
        write_env(JWT_SECRET=NEW_SECRET, JWT_SECRET_PREVIOUS="")
        await reload(service)
    assert await answer(load, sign(key=SECRET)) == (401, "AUTH_TOKEN_INVALID")
    assert load.failures == []


async def test_public_key_is_rotated_without_a_failed_request(
    start: Start, write_env: Write, tmp_path: Path
) -> None:
    old, new = make_key("ES256"), make_key("ES256")
    keys = tmp_path / "public-keys.pem"
    write_env(JWT_PUBLIC_KEY_FILE=str(keys))
    keys.write_text(pems.public(old))
    service = await start(ONE_WORKER, JWT_SECRET="", RATE_LIMIT="off")
    signing = old
    load = load_on(service, lambda: sign(key=signing, algorithm="ES256"))
    async with load.running():
        keys.write_text(pems.public(old) + pems.public(new))
        await reload(service)
        await load.more()
        signing = new
        await load.more()
        keys.write_text(pems.public(new))
        await reload(service)
    assert await answer(load, sign(key=old, algorithm="ES256")) == (401, "AUTH_TOKEN_INVALID")
    assert load.failures == []


async def test_a_provider_moves_from_a_secret_to_keys_without_a_failed_request(
    start: Start, write_env: Write
) -> None:
    async with issuing() as issuer:
        key = issuer.keys[0]
        keys = {"JWT_JWKS_URL": issuer.url, "JWT_ISSUER": ISSUER}
        write_env(JWT_SECRET=SECRET)
        service = await start(ONE_WORKER, JWT_SECRET="", RATE_LIMIT="off")
        payload = claims(iss=ISSUER)
        signed = old = sign(payload)
        load = load_on(service, lambda: signed)
        async with load.running():
            write_env(JWT_SECRET=SECRET, **keys, JWT_ALGORITHMS=f"HS256,{key.algorithm}")
            await reload(service)
            await load.more()
            signed = key.token(payload)
            await load.more()
            write_env(JWT_SECRET="", **keys, JWT_ALGORITHMS=key.algorithm)
            await reload(service)
        assert await answer(load, old) == (401, "AUTH_TOKEN_INVALID")
    assert load.failures == []


async def test_vapi_key_is_rotated_without_a_failed_request(
    start: Start, write_env: Write, tmp_path: Path
) -> None:
    key = tmp_path / "vapi-api-key"
    key.write_text(PRIVATE_KEY)
    known = {PRIVATE_KEY}
    async with vapi_accepting(known) as url:
        write_env(VAPI_API_KEY_FILE=str(key))
        service = await start(
            ONE_WORKER,
            VAPI_API_KEY="",
            VAPI_CREDENTIAL="session_token",
            VAPI_BASE_URL=url,
            VAPI_CHECK_SECONDS="1",
            RATE_LIMIT="off",
        )
        load = load_on(service, lambda: sign(claims()))
        async with load.running():
            known.add(NEW_PRIVATE_KEY)
            key.write_text(NEW_PRIVATE_KEY)
            await reload(service)
            issued_before_the_end = len(load.credentials)
            # Here an operator waits for VAPI_TOKEN_TTL_SECONDS: then no older token is in use.
            known.remove(PRIVATE_KEY)
            await load.more()
    assert signers(load.credentials[:ENOUGH]) == {PRIVATE_KEY}
    # A response that was under way when the last old worker exited may be counted late.
    assert signers(load.credentials[issued_before_the_end + CLIENTS :]) == {NEW_PRIVATE_KEY}
    assert load.failures == []


async def test_proof_key_is_rotated_without_a_refused_proof(
    start: Start, write_env: Write, tmp_path: Path
) -> None:
    old, new = (pems.private(make_key("ES256")) for _ in range(2))
    keys = tmp_path / "proof-keys.pem"
    keys.write_text(old)
    write_env(PROOF_KEY_FILE=str(keys), PROOF_ISSUER="sessions", PROOF_AUDIENCE="tools")
    service = await start(ONE_WORKER, RATE_LIMIT="off")
    load = load_on(service, sign)
    async with load.running():
        at_first = await published_keys(service)
        keys.write_text(old + new)
        await reload(service)
        # Here an operator waits for caches of the keys: then none is older than these.
        in_caches = await published_keys(service)
        await load.more()
        keys.write_text(new + old)
        await reload(service)
        signed_by_new = len(load.proofs) + CLIENTS
        await load.more()
        assert await published_keys(service) != at_first
        issued = len(load.proofs)
        keys.write_text(new)
        await reload(service)
    assert load.failures == []
    assert {verified(proof, in_caches) for proof in load.proofs} == {"pt_1"}
    assert {verified(proof, at_first) for proof in load.proofs[:ENOUGH]} == {"pt_1"}
    assert {verified(proof, at_first) for proof in load.proofs[signed_by_new:issued]} == {"key"}
    at_last = await published_keys(service)
    assert {verified(proof, at_last) for proof in load.proofs[-ENOUGH:]} == {"pt_1"}


async def published_keys(service: Running) -> Any:
    url = f"http://127.0.0.1:{service.port}/.well-known/jwks.json"
    async with ClientSession() as client, client.get(url) as response:
        return await response.json()


def verified(proof: str, jwks: Any) -> str:
    """Return the patient, or the reason of the refusal, as of a call that begins at once."""
    claims = jwt.decode(proof, options={"verify_signature": False})
    call = {"assistantId": claims["assistantId"], "createdAt": instant(claims["iat"])}
    try:
        return verify_patient(proof, call, jwks=jwks, issuer="sessions", audience="tools")
    except ProofError as error:
        return error.reason


async def answer(load: Load, token: str) -> tuple[int, str | None]:
    headers = {"Authorization": f"Bearer {token}"}
    async with ClientSession() as client, client.post(load.url, headers=headers) as response:
        body: Any = await response.json()
        return response.status, body.get("error", {}).get("code")


def signers(credentials: Collection[str]) -> set[str]:
    """Return the keys that the session tokens are signed with."""
    return {
        key
        for key in (PRIVATE_KEY, NEW_PRIVATE_KEY)
        for credential in credentials
        if is_signed_with(key, credential)
    }


def is_signed_with(key: str, credential: str) -> bool:
    try:
        jwt.decode(credential, key, algorithms=["HS256"])
    except jwt.InvalidSignatureError:
        return False
    return True


@asynccontextmanager
async def vapi_accepting(keys: Collection[str]) -> AsyncIterator[str]:
    """Run a stand-in for Vapi that accepts several private keys at the same time."""

    async def assistant(request: web.Request) -> web.Response:
        key = request.headers["Authorization"].removeprefix("Bearer ")
        return web.Response(status=200 if key in keys else 401)

    app = web.Application()
    app.router.add_get("/assistant/{id}", assistant)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
