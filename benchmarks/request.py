"""`make bench-request`: the processor time of one request, without a network.

Requests are fed from memory into the server's own connections, and responses are discarded, so the
figures contain no time of the kernel or of a client. The cost of a middleware is the time saved by
replacing it with one that only sets what the other middlewares need. The table goes to standard
error, because audit lines go to standard output.
"""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from time import perf_counter
from typing import Any, cast
from unittest.mock import patch

import jwt
import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from benchmarks.bench import CONNECTIONS
from benchmarks.keys import MATERIALS, REPEATED, Material, forge, make_token
from benchmarks.peers import bare
from benchmarks.servers import SERVICE
from middlewares.context import CONTEXT, PATIENT_ID, PRINCIPAL, Principal, RequestContext
from rig.service import PATH
from sandbox.tools.proofs import new_proof_key
from server import app as service
from server.auth import authenticator, keys
from server.auth.claims import Claims
from server.auth.tokens import Verify
from server.config import load_settings
from server.serving.run import Runner

ROUNDS = 6
TOKENS = 10_000
"""More than the service caches."""
BODY = "{}"
"""The body that clients send."""

_PRINCIPAL = Principal(
    patient_id="pt_1",
    roles=frozenset({"patient"}),
    scopes=frozenset(),
    token_id=None,
    valid_from=0,
    expires_at=2**40,
)
_CONTEXT = RequestContext(started_at=0.0, request_id="0" * 32, trace_id=None)
REQUEST_KEYS: dict[str, dict[web.RequestKey[Any], Any]] = {
    "audit": {CONTEXT: _CONTEXT},
    "authentication": {PRINCIPAL: _PRINCIPAL},
    "authorization": {PATIENT_ID: _PRINCIPAL.patient_id},
}
"""The request keys that each of these middlewares sets for the others."""
MIDDLEWARES = [
    "audit",
    "response_headers",
    "timeout",
    "authentication",
    "authorization",
    "rate_limit",
]
"""The middlewares that a granted request passes, by their names in `server.app`."""

PROOF = {
    "PROOF_KEY": new_proof_key(),
    "PROOF_ISSUER": "https://sessions.clinic.example",
    "PROOF_AUDIENCE": "https://tools.clinic.example",
}
BARE, KNOWN = "bare handler", "known token"

Measure = Callable[[], Awaitable[float]]


class DiscardingTransport(asyncio.Transport):
    """Discards what is written to it, and calls `on_response` for every response."""

    def __init__(self, on_response: Callable[[], None], client: socket.socket) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "socket": client})
        self._on_response = on_response

    def write(self, _: object) -> None:
        """Discard a response: aiohttp writes each in one piece."""
        self._on_response()

    def is_closing(self) -> bool:
        """Stay open."""
        return False

    def close(self) -> None:
        """Do nothing: nothing is connected."""

    def get_write_buffer_size(self) -> int:
        """Return 0: nothing is buffered."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: nothing is buffered."""

    def resume_reading(self) -> None:
        """Do nothing: `Clients` does not pause."""


class Clients:
    """CONNECTIONS clients of one server, which send their next requests at the same time.

    They connect for each series of requests: the service closes idle connections.
    """

    def __init__(self, server: Callable[[], Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._pending = 0
        self._socket = socket.socket()  # not connected: it takes the options that are set on it

    def _on_response(self) -> None:
        self._pending -= 1
        if not self._pending:
            self._done.set_result(None)

    async def send(self, requests: Sequence[bytes]) -> float:
        """Connect, send all requests, and disconnect. Return the microseconds for each request."""
        connections = [self._server() for _ in range(CONNECTIONS)]
        for connection in connections:
            connection.connection_made(DiscardingTransport(self._on_response, self._socket))
        began = perf_counter()
        for start in range(0, len(requests), CONNECTIONS):
            batch = requests[start : start + CONNECTIONS]
            self._pending = len(batch)
            self._done = self._loop.create_future()
            for connection, request in zip(connections, batch, strict=False):
                receive(connection, request)
            await self._done
        microseconds = (perf_counter() - began) / len(requests) * 1e6
        for connection in connections:
            connection.connection_lost(None)
        return microseconds


def receive(connection: asyncio.BaseProtocol, data: bytes) -> None:
    """Give a connection data, as the event loop does."""
    if isinstance(connection, asyncio.BufferedProtocol):
        connection.get_buffer(len(data))[: len(data)] = data  # type: ignore[index]  # a memoryview
        connection.buffer_updated(len(data))
    else:
        cast("asyncio.Protocol", connection).data_received(data)


def replacement(name: str) -> Callable[..., Middleware]:
    """Return a factory for the middleware that replaces another."""
    values = REQUEST_KEYS.get(name, {})

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        for key, value in values.items():
            request[key] = value
        return await handler(request)

    return lambda **_: middleware


def constant_handler(**_: object) -> Handler:
    """Replace `make_start_handler`."""
    return bare.start


def variants() -> Iterator[tuple[str, Any]]:
    """Yield the name of each replaceable component of `server.app`, and the patch for it."""
    for name in MIDDLEWARES:
        yield name, patch.object(service, name, replacement(name))
    yield "handler", patch.object(service, "make_start_handler", constant_handler)


async def without_aiohttp_jwt(clients: Clients, requests: Sequence[bytes]) -> float:
    """Send all requests while `verify_token` is replaced: the function is called directly."""
    with patch.object(authenticator, "verify_token", lambda token, verify: verify(token.encode())):
        return await clients.send(requests)


def verify_with_pyjwt(material: Material) -> Callable[..., Verify]:
    """Return a replacement of `make_verify` that calls PyJWT's own `decode`."""

    def verify(token: bytes) -> Claims:
        return jwt.decode(token, material.prepared, algorithms=[material.algorithm])

    return lambda *_args, **_options: verify


async def start_clients(runner: web.AppRunner, stack: AsyncExitStack) -> Clients:
    """Set a server up, and create clients for it."""
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    assert runner.server is not None
    return Clients(runner.server)


def service_runner(material: Material, **variables: str) -> web.AppRunner:
    """Create the service with its default settings, apart from SERVICE and `variables`."""
    settings = load_settings({**SERVICE, **material.variables, **variables})
    return Runner(service.create_app(settings), grace=0)


def bare_runner() -> web.AppRunner:
    """Create a server whose handler returns a constant."""
    app = web.Application()
    app.router.add_post(PATH, bare.start)
    return web.AppRunner(app, access_log=None, shutdown_timeout=0)


def requests_with(tokens: Sequence[str]) -> list[bytes]:
    """Write a request for each token, as wrk does."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: {len(BODY)}\r\n"
    head += "Content-Type: application/json\r\nAuthorization: Bearer "
    return [f"{head}{token}\r\n\r\n{BODY}".encode() for token in tokens]


async def contestants(material: Material, stack: AsyncExitStack) -> dict[str, Measure]:
    """Return everything that is measured, by name."""
    tokens = [make_token(material, patient) for patient in range(TOKENS)]
    new, forged = requests_with(tokens), requests_with([forge(token) for token in tokens])
    known = requests_with(tokens[:REPEATED]) * (TOKENS // REPEATED)
    whole = await start_clients(service_runner(material), stack)
    session_token = service_runner(material, VAPI_CREDENTIAL="session_token")
    signing = await start_clients(session_token, stack)
    proving = await start_clients(service_runner(material, **PROOF), stack)
    alone = await start_clients(bare_runner(), stack)
    measured: dict[str, Measure] = {
        BARE: partial(alone.send, known),
        KNOWN: partial(whole.send, known),
        "known token, session token": partial(signing.send, known),
        "known token, patient proof": partial(proving.send, known),
        "new token": partial(whole.send, new),
        "forged token": partial(whole.send, forged),
    }

    with patch.object(keys, "make_verify", verify_with_pyjwt(material)):
        with_pyjwt = await start_clients(service_runner(material), stack)
    measured["new token, decoded by PyJWT"] = partial(with_pyjwt.send, new)
    measured["new token, without aiohttp-jwt"] = partial(without_aiohttp_jwt, whole, new)
    for name, variant in variants():
        with variant:
            rest = await start_clients(service_runner(material), stack)
        measured[f"without {name}"] = partial(rest.send, known)
    return measured


async def main() -> None:
    """Measure in alternating rounds. Print a table of the fastest round of each."""
    material = MATERIALS[sys.argv[1] if len(sys.argv) > 1 else "HS256"]()
    async with AsyncExitStack() as stack:
        measured = await contestants(material, stack)
        rounds: dict[str, list[float]] = {name: [] for name in measured}
        for _ in range(ROUNDS):
            for name, measure in measured.items():
                rounds[name].append(await measure())
    # The first round fills the caches.
    costs = {name: min(each[1:]) for name, each in rounds.items()}
    print(table(costs), file=sys.stderr)


def table(costs: dict[str, float]) -> str:
    """Write the costs as a Markdown table."""
    bare_cost, whole_cost = costs[BARE], costs[KNOWN]
    lines = ["| one request | | / bare | saved |", "| --- | ---: | ---: | ---: |"]
    for name, cost in costs.items():
        saved = f"{whole_cost - cost:.1f} µs" if name.startswith("without") else ""
        lines.append(f"| {name} | {cost:.1f} µs | {cost / bare_cost:.2f} | {saved} |")
    return "\n".join(lines)


if __name__ == "__main__":
    uvloop.run(main())
