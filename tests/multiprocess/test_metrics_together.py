"""`/metrics` of a fleet: whichever process answers, it speaks for all."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.issuer import eventually
from tests.multiprocess.conftest import Start
from tests.multiprocess.support import ALONE, TWO_WORKERS, Running, ask, http, start_request

GRANTED = 'vapi_sessions_requests_total{code="",status="200"}'


async def metrics(service: Running) -> dict[str, float]:
    """Read all samples."""
    text = (await ask(service.port, http("GET", "/metrics"))).body.decode()
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


def made_in(folder: Path) -> list[Path]:
    """List the folders that metrics were kept in."""
    return list(folder.glob("vapi-sessions-metrics-*"))


async def test_every_worker_counts_into_the_same_metrics(start: Start) -> None:
    fleet = await start(TWO_WORKERS, RATE_LIMIT="off", METRICS_ENABLED="true")
    for number in range(20):
        assert (await ask(fleet.port, start_request(f"pt_{number}"))).status == 200
    for count in range(10):  # asked over and over, of this worker or that
        assert (await metrics(fleet))[GRANTED] == 20 + count


async def test_what_a_worker_counted_outlives_it_and_what_it_saw_does_not(
    start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "metrics"
    fleet = await start(
        TWO_WORKERS, RATE_LIMIT="off", METRICS_ENABLED="true", PROMETHEUS_MULTIPROC_DIR=str(folder)
    )
    victim = int((await fleet.log.find(r"Booting worker with pid: (\d+)"))[1])
    states = folder / f"gauge_livemax_{victim}.db"

    async def noted() -> bool:
        return states.exists()

    async def forgotten() -> bool:
        return not states.exists()

    for number in range(20):
        assert (await ask(fleet.port, start_request(f"pt_{number}"))).status == 200
    await eventually(noted)
    os.kill(victim, signal.SIGKILL)
    await eventually(forgotten)
    samples = await metrics(fleet)
    assert samples[GRANTED] == 20
    assert samples['vapi_sessions_vapi_state{state="off"}'] == 1


async def test_what_an_earlier_life_of_the_fleet_counted_is_forgotten(
    start: Start, tmp_path: Path
) -> None:
    for _ in range(2):
        fleet = await start(
            TWO_WORKERS, METRICS_ENABLED="true", PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "metrics")
        )
        assert GRANTED not in await metrics(fleet)
        assert GRANTED in await metrics(fleet)
        fleet.process.terminate()
        await fleet.left()


async def test_a_fleet_leaves_no_folder_behind(start: Start, tmp_path: Path) -> None:
    fleet = await start(TWO_WORKERS, METRICS_ENABLED="true", TMPDIR=str(tmp_path))
    assert GRANTED not in await metrics(fleet)
    assert len(made_in(tmp_path)) == 1
    fleet.process.terminate()
    await fleet.left()
    assert made_in(tmp_path) == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian: apt install prometheus")
@pytest.mark.parametrize("command", [ALONE, TWO_WORKERS], ids=["alone", "gunicorn"])
async def test_prometheus_has_no_fault_to_find_with_the_metrics(
    start: Start, command: Sequence[str]
) -> None:
    service = await start(command, METRICS_ENABLED="true")
    await ask(service.port, start_request())
    text = (await ask(service.port, http("GET", "/metrics"))).body
    checked = subprocess.run(  # noqa: ASYNC221  nothing else is to happen meanwhile
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
