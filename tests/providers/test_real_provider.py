"""A real OpenID provider, panva's oidc-provider, rotates its keys under load."""

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import ge
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from rig.service import Service
from rig.waiting import eventually
from tests import npm
from tests.conftest import Serve

FOLDER = Path(__file__).parent
CLIENTS = 8
ROTATIONS = 5


class Provider:
    """The provider's process, and a client for it."""

    def __init__(self, process: Process, client: ClientSession, issuer: str) -> None:
        self._process = process
        self._client = client
        self.issuer = issuer

    async def rotate(self) -> str:
        """Sign with a new key from now on; return its id."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"rotate\n")
        return str((await read_line(self._process))["kid"])

    async def token(self) -> str:
        """Get an access token by client credentials."""
        form = {
            "grant_type": "client_credentials",
            "client_id": "app",
            "client_secret": "app-secret",
            "scope": "voice",
        }
        async with self._client.post(f"{self.issuer}/token", data=form) as answer:
            return str((await answer.json())["access_token"])


async def read_line(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    message: dict[str, Any] = json.loads(await process.stdout.readline())
    return message


@asynccontextmanager
async def providing(algorithm: str) -> AsyncIterator[Provider]:
    process = await asyncio.create_subprocess_exec(
        "node", "provider.mjs", algorithm, cwd=FOLDER, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    try:
        async with ClientSession() as client:
            yield Provider(process, client, (await read_line(process))["issuer"])
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def variables(provider: Provider, algorithm: str) -> dict[str, str]:
    return {
        "JWT_SECRET": "",
        "JWT_JWKS_URL": f"{provider.issuer}/jwks",
        "JWT_ISSUER": provider.issuer,
        "JWT_AUDIENCE": "https://voice.clinic.example",
        "JWT_ALGORITHMS": algorithm,
        "JWT_PATIENT_ID_CLAIM": "patient.id",
        "JWT_ROLE_CLAIM": "roles",
        "JWT_REQUIRED_SCOPE": "voice",
        "JWT_MAX_LIFETIME_SECONDS": "300",
        "RATE_LIMIT": "off",
    }


class Load:
    """Clients that repeatedly get a new token and start a session with it."""

    def __init__(self, provider: Provider, service: Service) -> None:
        self._provider = provider
        self._service = service
        self.requests = [0] * CLIENTS
        self.failures: list[bytes] = []

    async def run_client(self, number: int) -> None:
        while True:
            answer = await self._service.start(await self._provider.token())
            self.requests[number] += 1
            if answer.status != 200:
                self.failures.append(answer.body)

    async def two_more_requests_each(self) -> None:
        """Wait until no client has a token of the key that the next rotation removes."""
        targets = [count + 2 for count in self.requests]

        async def reached() -> bool:
            return all(map(ge, self.requests, targets))

        await eventually(reached, seconds=20)


async def test_rotation_under_load_rejects_no_valid_token(serve: Serve) -> None:
    npm.install(FOLDER)
    async with providing("ES256") as provider:
        service = await serve(**variables(provider, "ES256"), JWKS_COOLDOWN_SECONDS="0.01")
        load = Load(provider, service)
        clients = [asyncio.create_task(load.run_client(number)) for number in range(CLIENTS)]
        kids = set()
        for _ in range(ROTATIONS):
            await load.two_more_requests_each()
            kids.add(await provider.rotate())
        await load.two_more_requests_each()
        for client in clients:
            client.cancel()
        ends = await asyncio.gather(*clients, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}
    assert load.failures == []
    assert len(kids) == ROTATIONS


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
async def test_rotation_with_default_settings_takes_effect_at_once(
    serve: Serve, algorithm: str
) -> None:
    npm.install(FOLDER)
    async with providing(algorithm) as provider:
        service = await serve(**variables(provider, algorithm))
        before = await provider.token()
        assert (await service.start(before)).status == 200
        await provider.rotate()
        assert (await service.start(await provider.token())).status == 200
        assert (await service.start(before)).status == 200
