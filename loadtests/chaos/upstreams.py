"""The upstreams of the service: Redis behind a proxy, an identity provider, a stand-in for Vapi."""

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

HOST = "127.0.0.1"
ISSUER = "https://issuer.example/"


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition is true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  the condition is about another process
            await asyncio.sleep(0.05)


class RedisServer:
    """A redis-server that can be stopped, suspended and reconfigured."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, with an empty data set."""
        options = [
            "--port",
            str(self.port),
            "--bind",
            HOST,
            "--save",
            "",
            "--dir",
            str(self._folder),
        ]
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    async def command(self, *words: str, password: str = "") -> str:
        """Send one command on a new connection; return the first line of the reply."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            if password:
                await self._exchange(reader, writer, ("AUTH", password))
            return await self._exchange(reader, writer, words)
        finally:
            writer.close()

    @staticmethod
    async def _exchange(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: tuple[str, ...]
    ) -> str:
        parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        writer.write(f"*{len(words)}\r\n{''.join(parts)}".encode())
        return (await reader.readline()).decode().strip()


class DelayProxy:
    """A TCP proxy that delays each chunk by half of a round-trip time in each direction."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.round_trip_seconds = 0.0
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connect, HOST, self.port)

    async def stop(self) -> None:
        """Close all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection(HOST, self._target_port)
        except OSError:
            writer.transport.abort()
            return
        for source, sink in ((reader, upstream[1]), (upstream[0], writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Forward chunks in their order, also when the delay becomes shorter."""
        loop = asyncio.get_running_loop()
        previous = 0.0
        with suppress(OSError):
            while data := await source.read(65536):
                # The smallest step keeps timers of the same millisecond in order.
                previous = max(previous + 0.001, loop.time() + self.round_trip_seconds / 2)
                loop.call_at(previous, self._forward, sink, data)
        loop.call_at(previous + 0.001, sink.close)

    @staticmethod
    def _forward(sink: asyncio.StreamWriter, data: bytes) -> None:
        if not sink.is_closing():
            sink.write(data)


class IdentityProvider:
    """Publishes one ES256 key at a JWKS address, and signs tokens with it."""

    def __init__(self) -> None:
        self.fails = False
        self._number = 0
        self.rotate()

    def rotate(self) -> None:
        """Replace the key."""
        self._number += 1
        self._key = ec.generate_private_key(ec.SECP256R1())

    def token(self, patient: str) -> str:
        """Sign a token of a patient, valid for an hour."""
        now = int(time())
        claims = {"iss": ISSUER, "id": patient, "type": "patient", "iat": now, "exp": now + 3600}
        headers = {"kid": str(self._number)}
        return jwt.encode({**claims, "jti": patient}, self._key, "ES256", headers=headers)

    async def jwks(self, _: web.Request) -> web.Response:
        """Answer with the key set, or fail."""
        if self.fails:
            return web.Response(status=500)
        jwk: Any = json.loads(ECAlgorithm.to_jwk(self._key.public_key()))
        keys = [{**jwk, "kid": str(self._number), "use": "sig", "alg": "ES256"}]
        return web.json_response({"keys": keys})


class VapiStandIn:
    """Answers health checks with a status that can be changed."""

    def __init__(self) -> None:
        self.status = 200

    async def assistant(self, _: web.Request) -> web.Response:
        """Answer a health check."""
        return web.json_response({}, status=self.status)


async def serve_upstreams(
    provider: IdentityProvider, vapi: VapiStandIn
) -> tuple[web.AppRunner, str]:
    """Serve the identity provider and the stand-in; return the runner and the address."""
    app = web.Application()
    app.router.add_get("/jwks", provider.jwks)
    app.router.add_get("/assistant/{id}", vapi.assistant)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    return runner, f"http://{HOST}:{runner.addresses[0][1]}"
