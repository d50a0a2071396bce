"""`make bench-request`: where the microseconds of one request go, without a network.

The server's own connections are fed requests from memory and answer into nothing, so that neither
the kernel nor a client has a part in it. A link of the chain costs what is saved by leaving it out:
in its place stands one that does no more than what the rest cannot do without. The table goes to
standard error: standard output has the audit lines.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from time import perf_counter
from typing import Any
from unittest.mock import patch

import jwt
import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from benchmarks.bench import CONNECTIONS, PATH
from benchmarks.keys import DISTINCT, MATERIALS, REPEATED, Material, forged, make_token
from benchmarks.peers import bare
from benchmarks.servers import SERVICE
from middlewares.request_context import PATIENT_ID, PRINCIPAL, REQUEST_ID, STARTED_AT
from server import app as service
from server.auth.aiohttp_jwt_adapter import Decoder
from server.auth.claims import Claims
from server.auth.jwt_decode import Decode
from server.auth.keys import factory
from server.config import load_settings
from server.serving.runner import Runner
from tests.middlewares.support import PATIENT

ROUNDS = 9

NEEDED: dict[str, dict[web.RequestKey[Any], Any]] = {
    "audit": {STARTED_AT: 0.0, REQUEST_ID: "0" * 32},
    "authentication": {PRINCIPAL: PATIENT},
    "authorization": {PATIENT_ID: PATIENT.patient_id},
}
"""What inner links read of what each of these sets."""
LINKS = [
    "audit",
    "response_headers",
    "timeout",
    "authentication",
    "authorization",
    "rate_limit",
]
"""Those that a granted request has something to do with, by the names that `server.app` knows."""

Measure = Callable[[], Awaitable[float]]


class Nowhere(asyncio.Transport):
    """A client who takes every answer, and tells when it came."""

    def __init__(self, answered: Callable[[], None]) -> None:
        super().__init__()
        self.answered = answered

    def write(self, _: object) -> None:
        """Take an answer: aiohttp writes each in one piece."""
        self.answered()

    def is_closing(self) -> bool:
        """Stay."""
        return False

    def close(self) -> None:
        """Leave: there is nothing to close."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Come from loopback."""
        return ("127.0.0.1", 1) if name == "peername" else default


class Clients:
    """So many clients of a server, each of whom asks again once all have been answered."""

    def __init__(self, server: Callable[[], Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting = 0
        self._connections = [server() for _ in range(CONNECTIONS)]
        for connection in self._connections:
            connection.connection_made(Nowhere(self._answered))

    def _answered(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._all_answered.set_result(None)

    async def ask(self, requests: Sequence[bytes]) -> float:
        """Send all requests; give the microseconds that one took."""
        began = perf_counter()
        for start in range(0, len(requests), CONNECTIONS):
            turn = requests[start : start + CONNECTIONS]
            self._waiting = len(turn)
            self._all_answered = self._loop.create_future()
            for connection, request in zip(self._connections, turn, strict=False):
                connection.data_received(request)
            await self._all_answered
        return (perf_counter() - began) / len(requests) * 1e6


def idle(name: str) -> Callable[..., Middleware]:
    """Make the factory of a link that stands in the place of another."""
    needed = NEEDED.get(name, {})

    @web.middleware
    async def link(request: web.Request, handler: Handler) -> web.StreamResponse:
        for key, value in needed.items():
            request[key] = value
        return await handler(request)

    return lambda **_: link


def constant_handler(**_: object) -> Handler:
    """Stand in the place of `make_start_handler`."""
    return bare.start


def variants() -> Iterator[tuple[str, Any]]:
    """Name what may stand in the place of a piece of `server.app`."""
    for name in LINKS:
        yield name, patch.object(service, name, idle(name))
    yield "handler", patch.object(service, "make_start_handler", constant_handler)


def without_aiohttp_jwt(decode: Decode) -> Decoder:
    """Replace `make_decoder`: call the decode function directly."""

    async def decoder(token: str) -> Claims:
        return decode(token.encode())

    return decoder


def decode_with_pyjwt(material: Material) -> Callable[..., Decode]:
    """Return a replacement of `make_decode` that calls PyJWT's own `decode`."""

    def decode(token: bytes) -> Claims:
        return jwt.decode(token, material.prepared, algorithms=[material.algorithm])

    return lambda *_args, **_options: decode


async def clients_of(runner: web.AppRunner, stack: AsyncExitStack) -> Clients:
    """Make a server ready, and clients for it."""
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    assert runner.server is not None
    return Clients(runner.server)


def the_service(material: Material, **variables: str) -> web.AppRunner:
    """Make the service, with everything of it switched on."""
    settings = load_settings({**SERVICE, **material.variables, **variables})
    return Runner(service.create_app(settings), grace=0)


def the_bare_handler() -> web.AppRunner:
    """Make a server of a handler that returns a constant."""
    app = web.Application()
    app.router.add_post(PATH, bare.start)
    return web.AppRunner(app, access_log=None, shutdown_timeout=0)


def written(tokens: Sequence[str]) -> list[bytes]:
    """Write a request for each token, as wrk does."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAuthorization: Bearer "
    return [f"{head}{token}\r\n\r\n".encode() for token in tokens]


async def contestants(material: Material, stack: AsyncExitStack) -> dict[str, Measure]:
    """Name everything that is measured."""
    tokens = [make_token(material, patient) for patient in range(DISTINCT)]
    distinct, false = written(tokens), written([forged(token) for token in tokens])
    known = written(tokens[:REPEATED]) * (DISTINCT // REPEATED)
    whole = await clients_of(the_service(material), stack)
    signing = await clients_of(the_service(material, VAPI_CREDENTIAL="session_token"), stack)
    alone = await clients_of(the_bare_handler(), stack)
    measured: dict[str, Measure] = {
        "a bare handler": partial(alone.ask, known),
        "a known token": partial(whole.ask, known),
        "a known token, session token": partial(signing.ask, known),
        "a token never seen": partial(whole.ask, distinct),
        "a forged token": partial(whole.ask, false),
    }

    with patch.object(factory, "make_decode", decode_with_pyjwt(material)):
        with_pyjwt = await clients_of(the_service(material), stack)
    measured["a token never seen, decoded by PyJWT"] = partial(with_pyjwt.ask, distinct)
    with patch.object(factory, "make_decoder", without_aiohttp_jwt):
        direct = await clients_of(the_service(material), stack)
    measured["a token never seen, without aiohttp-jwt"] = partial(direct.ask, distinct)
    for name, without in variants():
        with without:
            rest = await clients_of(the_service(material), stack)
        measured[f"without {name}"] = partial(rest.ask, known)
    return measured


async def main() -> None:
    """Measure in alternating rounds; print a table of the quietest of each."""
    material = MATERIALS[sys.argv[1] if len(sys.argv) > 1 else "HS256"]()
    async with AsyncExitStack() as stack:
        measured = await contestants(material, stack)
        rounds: dict[str, list[float]] = {name: [] for name in measured}
        for _ in range(ROUNDS):
            for name, measure in measured.items():
                rounds[name].append(await measure())
    # The first round fills the memory that all later ones have to do with.
    costs = {name: min(each[1:]) for name, each in rounds.items()}
    print(table(costs), file=sys.stderr)


def table(costs: dict[str, float]) -> str:
    """Write the costs as a Markdown table."""
    bare_cost, whole_cost = costs["a bare handler"], costs["a known token"]
    lines = ["| one request | | times bare | saved |", "| --- | ---: | ---: | ---: |"]
    for name, cost in costs.items():
        saved = f"{whole_cost - cost:.1f} µs" if name.startswith("without") else ""
        lines.append(f"| {name} | {cost:.1f} µs | {cost / bare_cost:.2f} | {saved} |")
    return "\n".join(lines)


if __name__ == "__main__":
    uvloop.run(main())
