"""`revoke`, `pause` and `resume` as an operator runs them, beside the processes of the service."""

import asyncio
import json
from pathlib import Path
from time import monotonic

import pytest

from rig import process
from rig.process import ALONE, TWO_WORKERS, Running
from rig.redis_server import RedisServer
from rig.service import VARIABLES
from rig.wire import exchange, get, start_request
from tests.multiprocess.conftest import Start

pytestmark = pytest.mark.redis


async def run(folder: Path, url: str, *arguments: str) -> None:
    ended = await process.run(folder, {**VARIABLES, "REDIS_URL": url}, *arguments)
    assert ended.status == 0


async def codes(patient: str, *services: Running) -> list[str | None]:
    replies = [await exchange(each, start_request(patient)) for each in services]
    return [reply.json.get("error", {}).get("code") for reply in replies]


async def test_revocation_and_pause_are_effective_in_every_process_at_once(
    start: Start, redis_server: RedisServer, tmp_path: Path
) -> None:
    url, metrics = redis_server.url, {"METRICS_ENABLED": "true"}
    services = [await start(ALONE, REDIS_URL=url, **metrics)]
    workers = await start(TWO_WORKERS, REDIS_URL=url, **metrics)
    assert await codes("pt_1", *services, workers) == [None] * 2
    await run(tmp_path, url, "revoke", "--patient", "pt_0")
    assert await codes("pt_0", *services, workers) == ["AUTH_TOKEN_REVOKED"] * 2

    await run(tmp_path, url, "pause", "--for", "3600", "--reason", "incident\n42")
    assert await codes("pt_1", *services, workers) == ["VAPI_SESSION_FAILED"] * 2
    for service in (*services, workers):
        found = await service.log.find("sessions are paused through Redis until ")
        assert json.loads(found.string)["message"].endswith(r"Z: incident\u000a42")
        assert json.loads(found.string)["level"] == "WARNING"

    await run(tmp_path, url, "resume")
    assert await codes("pt_1", *services, workers) == [None] * 2
    for service in (*services, workers):
        found = await service.log.find("the pause through Redis has ended")
        assert json.loads(found.string)["level"] == "INFO"
    assert [len(each.log.matching("are paused through")) for each in services] == [1]

    # Without traffic, /metrics shows a pause within two seconds, and each worker sees it by itself.
    before = len(workers.log.matching("are paused through"))
    await run(tmp_path, url, "pause")
    begin = monotonic()
    while b"vapi_sessions_paused 1.0" not in await scrape(workers):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert monotonic() - begin < 4
    while len(workers.log.matching("are paused through")) < before + 2:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def scrape(service: Running) -> bytes:
    return (await exchange(service, get("/metrics"))).body
