"""A real OpenID provider, panva's oidc-provider, whose keys rotate while patients come and go."""

import asyncio
import fcntl
import json
import shutil
import subprocess
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.conftest import Serve
from tests.issuer import eventually
from tests.support import Service

FOLDER = Path(__file__).parent
CLIENTS = 8
ROTATIONS = 5


def install() -> None:
    """Install the provider as its lock file says, or skip where that cannot be."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed (Debian: apt install nodejs npm)")
    lock = FOLDER / "package-lock.json"
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # one of several test processes does it
        done = FOLDER / "node_modules" / ".package-lock.json"
        if done.exists() and done.stat().st_mtime >= lock.stat().st_mtime:
            return
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        installed = subprocess.run(command, cwd=FOLDER, capture_output=True, check=False)
    if installed.returncode:
        pytest.skip("npm could not install oidc-provider: is its registry reachable?")


class Provider:
    """The provider's process, and how to talk with it."""

    def __init__(self, process: Process, client: ClientSession, issuer: str) -> None:
        self._process = process
        self._client = client
        self.issuer = issuer

    async def rotate(self) -> str:
        """Sign with a new key from now on; give its id."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"rotate\n")
        told = await read_line(self._process)
        return str(told["kid"])

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
    told: dict[str, Any] = json.loads(await process.stdout.readline())
    return told


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


class Crowd:
    """Patients who come with a new token again and again, and what they were told."""

    def __init__(self, provider: Provider, service: Service) -> None:
        self._provider = provider
        self._service = service
        self.rounds = [0] * CLIENTS
        self.refusals: list[bytes] = []

    async def come_and_go(self, number: int) -> None:
        while True:
            answer = await self._service.start(await self._provider.token())
            self.rounds[number] += 1
            if answer.status != 200:
                self.refusals.append(answer.body)

    async def all_came_twice_more(self) -> None:
        """Wait: then nobody holds a token of a key that the next rotation withdraws."""
        aims = [rounds + 2 for rounds in self.rounds]

        async def all_did() -> bool:
            return all(rounds >= aim for rounds, aim in zip(self.rounds, aims, strict=True))

        await eventually(all_did, seconds=20)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_no_valid_token_is_refused_while_the_keys_rotate(
    serve: Serve, algorithm: str
) -> None:
    install()
    async with providing(algorithm) as provider:
        service = await serve(**variables(provider, algorithm), JWKS_COOLDOWN_SECONDS="0.01")
        crowd = Crowd(provider, service)
        coming = [asyncio.create_task(crowd.come_and_go(number)) for number in range(CLIENTS)]
        kids = set()
        for _ in range(ROTATIONS):
            await crowd.all_came_twice_more()
            kids.add(await provider.rotate())
        await crowd.all_came_twice_more()
        for task in coming:
            task.cancel()
        gone = await asyncio.gather(*coming, return_exceptions=True)
    assert {type(end) for end in gone} == {asyncio.CancelledError}
    assert crowd.refusals == []
    assert len(kids) == ROTATIONS


async def test_with_everything_at_its_default_a_rotation_is_got_over_at_once(serve: Serve) -> None:
    install()
    async with providing("ES256") as provider:
        service = await serve(**variables(provider, "ES256"))
        before = await provider.token()
        assert (await service.start(before)).status == 200
        await provider.rotate()
        assert (await service.start(await provider.token())).status == 200
        assert (await service.start(before)).status == 200
