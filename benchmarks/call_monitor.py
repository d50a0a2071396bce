"""What the call monitor costs: `python -m benchmarks.call_monitor`.

500 calls in progress and 2,000 of the last day, each with a transcript of 50 kB, in the stand-in
for Vapi; the service, in a process of its own, reads them every ten seconds. It prints the
processor time of an interval and the memory, and how long sessions take without the monitor, with
it, and while the list does not answer.
"""

import asyncio
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, time
from types import SimpleNamespace
from typing import Any, Final, cast

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from middlewares.context import rfc3339
from rig.process import ALONE, Running, cpu_seconds, rss_megabytes, started
from rig.service import ASSISTANT_ID, NO_FILE, VARIABLES, claims, sign
from rig.vapi import StandIn, vapi
from rig.wire import dial, head
from sandbox.vapi.behaviour import Behaviour, Fault
from sandbox.vapi.call_list import CALL_LIST
from server.config import load_settings
from server.proof import IssueProof, make_proof_issuer

_ACTIVE: Final = 500
_ENDED: Final = 2000
_TRANSCRIPT: Final = 50_000
_INTERVAL: Final = 10
_INTERVALS: Final = 4
_SESSIONS: Final = 5000


_KEY: Final = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)
_PROOF: Final = {
    "PROOF_KEY": _KEY.decode().replace("\n", "\\n"),
    "PROOF_ISSUER": "https://sessions.clinic.example",
    "PROOF_AUDIENCE": "tools",
}
_SETTINGS: Final = load_settings({**VARIABLES, **_PROOF}, NO_FILE)


def _calls() -> list[dict[str, Any]]:
    now = time()
    active = [_call(n, now - 1800 * n / _ACTIVE - 1, None) for n in range(_ACTIVE)]
    return active + [_call(_ACTIVE + n, now - 86000 * n / _ENDED - 400, 300) for n in range(_ENDED)]


def _call(number: int, created: float, seconds: float | None) -> dict[str, Any]:
    issue = cast("IssueProof", make_proof_issuer(_SETTINGS, lambda: created))
    token = issue(f"pt_{number}", ASSISTANT_ID, None).token
    call = {
        "id": f"call-{number}",
        "type": "webCall",
        "status": "in-progress" if seconds is None else "ended",
        "createdAt": rfc3339(created),
        "updatedAt": rfc3339(created + (seconds or 0)),
        "assistantId": ASSISTANT_ID,
        "assistantOverrides": {"variableValues": {"patientProof": token}},
        "artifact": {"transcript": "How do you feel today? " * (_TRANSCRIPT // 23)},
    }
    return call if seconds is None else {**call, "endedAt": call["updatedAt"]}


@asynccontextmanager
async def _service(stand_in: StandIn, mode: str) -> AsyncIterator[Running]:
    variables = {
        **VARIABLES,
        **_PROOF,
        "VAPI_BASE_URL": stand_in.url,
        "CALL_MONITOR": mode,
        "CALL_MONITOR_SECONDS": str(_INTERVAL),
        "CALL_LIMITS": "" if mode == "off" else "active:1, minutes:60/day",
        "RATE_LIMIT": "off",
    }
    with tempfile.TemporaryDirectory() as folder:
        async with started(ALONE, Path(folder), variables) as service:
            await asyncio.sleep(10)  # the calls of the last day are read
            yield service


async def _p99(service: Running) -> float:
    """Return the time that 99 % of the sessions take at most, in milliseconds.

    The client has a process of its own, since the stand-in is in this one.
    """
    command = (sys.executable, "-m", "benchmarks.call_monitor", str(service.port))
    client = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    out, _ = await client.communicate()
    return float(out)


async def _measure(port: int) -> float:
    service = SimpleNamespace(port=port)
    took: list[float] = []
    request = head("Content-Length: 0", token=sign(claims(id="pt_bench")))
    async with dial(service) as wire:
        for _ in range(_SESSIONS):
            began = monotonic()
            await wire.send(request)
            answer = await wire.answer()
            took.append(monotonic() - began)
            assert answer.status == 200, answer.body
            await asyncio.sleep(0.002)
    return sorted(took)[len(took) * 99 // 100] * 1000


async def main() -> None:
    """Measure, and print."""
    async with vapi() as stand_in:
        stand_in.app[CALL_LIST].more = _calls()
        async with _service(stand_in, "off") as service:
            without, alone = rss_megabytes(service.pid), await _p99(service)
        async with _service(stand_in, "enforce") as service:
            with_it = rss_megabytes(service.pid)
            before = cpu_seconds(service.pid)
            await asyncio.sleep(_INTERVAL * _INTERVALS)
            used = (cpu_seconds(service.pid) - before) / _INTERVALS
            memory = max(with_it, rss_megabytes(service.pid)) - without
            beside = await _p99(service)
            stand_in.behave(Behaviour(Fault.HANG))
            failing = await _p99(service)
    print(f"processor time of an interval: {used * 1000:.0f} ms")
    print(f"memory beside a service without the monitor: {memory:.1f} MiB")
    print(f"p99 of a session without the monitor: {alone:.1f} ms")
    print(f"with it: {beside:.1f} ms; while Vapi does not answer: {failing:.1f} ms")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(asyncio.run(_measure(int(sys.argv[1]))))
    else:
        asyncio.run(main())
