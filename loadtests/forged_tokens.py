"""`make bench-forged`: the latency of a known token beside a flood of forged tokens.

1,000 connections send forged ES512 tokens without pause, for ten seconds. Beside them four patients
send a token that the service knows, fifty times a second each. Three runs: without the flood, with
it, and with it while new tokens have no time limit in a turn of the event loop. The figures are
printed and not asserted: they depend on the machine.
"""

import asyncio
import resource
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import cast

import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rig.process import ALONE, Running, started
from rig.service import VARIABLES, claims, sign
from rig.wire import connected, exchange, post, read_answer

CONNECTIONS, TOKENS, SECONDS, PATIENTS, INTERVAL = 1000, 5000, 10.0, 4, 0.02
_WITHOUT_LIMIT = """
from server.auth import authenticator
from server.cli.main import main
authenticator.TURN_SECONDS = float("inf")
raise SystemExit(main(["serve"]))
"""
UNLIMITED = (sys.executable, "-c", _WITHOUT_LIMIT)
"""The service without the time limit."""


class Flood(asyncio.Protocol):
    """A connection that sends the next forged token as soon as one is answered."""

    answers = 0

    def __init__(self, requests: "cycle[bytes]") -> None:
        self._requests = requests

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        """Send the next."""
        Flood.answers += data.count(b"HTTP/1.1 ")
        self._transport.write(next(self._requests))


def forged_requests() -> "cycle[bytes]":
    """Return requests with distinct tokens that a key of nobody has signed."""
    key = ec.generate_private_key(ec.SECP521R1())
    signature = sign(key=key, algorithm="ES512").rpartition(".")[2]
    head = sign(claims(), key, "ES512").partition(".")[0]
    bodies = (sign(claims(jti=f"{n}")).split(".")[1] for n in range(TOKENS))
    return cycle([post(b"{}", token=f"{head}.{body}.{signature}") for body in bodies])


async def flood(port: int) -> None:
    """Open the connections, say so, and send for a while; print the number of answers."""
    loop, requests = asyncio.get_running_loop(), forged_requests()
    for _ in range(CONNECTIONS // 50):
        opening = (
            loop.create_connection(lambda: Flood(requests), "127.0.0.1", port) for _ in range(50)
        )
        await asyncio.gather(*opening)
    print("open", flush=True)
    before = Flood.answers
    await asyncio.sleep(SECONDS + 1)
    print(Flood.answers - before, flush=True)


async def patient(service: Running, token: str) -> list[float]:
    """Send a token at intervals; return the milliseconds of each request."""
    milliseconds: list[float] = []
    request = post(b"{}", token=token)
    ends_at = perf_counter() + SECONDS
    async with asyncio.timeout(SECONDS * 3), connected(service) as (reader, writer):
        while (began := perf_counter()) < ends_at:
            writer.write(request)
            if (await read_answer(reader)).status != 200:
                raise RuntimeError("a valid request was refused")
            milliseconds.append((perf_counter() - began) * 1000)
            await asyncio.sleep(max(0.0, began + INTERVAL - perf_counter()))
    return milliseconds


async def measure(service: Running, tokens: Sequence[str], *, flooded: bool) -> str:
    """Measure the patients; return the figures."""
    for token in tokens:
        await exchange(service, post(b"{}", token=token))  # known from now on
    command = (sys.executable, "-m", "loadtests.forged_tokens", str(service.port))
    attacker = await asyncio.create_subprocess_exec(*command, stdout=PIPE) if flooded else None
    if attacker is not None and attacker.stdout is not None:
        await attacker.stdout.readline()
    patients = await asyncio.gather(*(patient(service, token) for token in tokens))
    figures = line([each for milliseconds in patients for each in milliseconds])
    if attacker is not None:
        out, _ = await attacker.communicate()
        figures += f"   {int(out) / (SECONDS + 1):6.0f} forged tokens a second"
    return figures


def line(milliseconds: Sequence[float]) -> str:
    """Write the figures of one run."""
    p99, most = quantiles(milliseconds, n=100)[98], max(milliseconds)
    return f"median {median(milliseconds):7.1f} ms   p99 {p99:7.1f} ms   max {most:7.1f} ms"


async def main() -> None:
    """Measure the three runs, each with a new service."""
    key = ec.generate_private_key(ec.SECP521R1())
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    settings = {"JWT_SECRET": "", "JWT_PUBLIC_KEY": pem, "JWT_ALGORITHMS": "ES512"}
    variables = {**VARIABLES, **settings, "RATE_LIMIT": "off"}
    tokens = [sign(claims(id=f"pt_{number}"), key, "ES512") for number in range(PATIENTS)]
    for name, command, flooded in (
        ("no forged tokens", ALONE, False),
        ("forged tokens", ALONE, True),
        ("forged tokens, no limit", UNLIMITED, True),
    ):
        with TemporaryDirectory(prefix="vapi-sessions-forged-") as folder:
            async with started(command, Path(folder), variables, stdout=DEVNULL) as service:
                figures = await measure(service, tokens, flooded=flooded)
                print(f"{name:<26} {figures}", flush=True)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(flood(int(sys.argv[1])) if len(sys.argv) > 1 else main())
