"""`/metrics` under gunicorn: each response has the metrics of all processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from rig.process import TWO_WORKERS, Running
from rig.waiting import eventually
from rig.wire import exchange, get, start_request
from tests.multiprocess.conftest import Start

GRANTED = 'vapi_sessions_requests_total{code="",reason="",route="session",status="200"}'

SCRAPED = GRANTED.replace('session"', 'operations"')


async def metrics(service: Running) -> dict[str, float]:
    """Return all samples."""
    text = (await exchange(service, get("/metrics"))).body.decode()
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


def mapped_folders(processes: Iterable[int]) -> list[Path]:
    """Return the folders of the metrics that these processes have mapped into their memory."""
    maps = "".join(Path(f"/proc/{process}/maps").read_text() for process in processes)
    return [Path(name) for name in set(re.findall(r"/\S+/vapi-sessions-metrics-[^/]+", maps))]


async def test_response_has_the_metrics_of_all_workers(start: Start) -> None:
    service = await start(TWO_WORKERS, RATE_LIMIT="off", METRICS_ENABLED="true")
    for number in range(20):
        assert (await exchange(service, start_request(f"pt_{number}"))).status == 200
    for count in range(10):  # of one worker or the other
        found = await metrics(service)
        assert (found[GRANTED], found.get(SCRAPED, 0)) == (20, count)
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    text = (await exchange(service, get("/metrics"))).body
    checked = subprocess.run(  # noqa: ASYNC221  nothing else runs
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


async def test_counters_of_a_worker_outlive_it_and_gauges_do_not(
    start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "counter_1.db").write_bytes(b"of an earlier start")
    service = await start(
        TWO_WORKERS, RATE_LIMIT="off", METRICS_ENABLED="true", PROMETHEUS_MULTIPROC_DIR=str(folder)
    )
    victim = int((await service.log.find(r"Booting worker with pid: (\d+)"))[1])
    states = folder / f"gauge_livemax_{victim}.db"

    async def is_recorded() -> bool:
        return states.exists()

    async def is_deleted() -> bool:
        return not states.exists()

    for number in range(20):
        assert (await exchange(service, start_request(f"pt_{number}"))).status == 200
    await eventually(is_recorded)
    os.kill(victim, signal.SIGKILL)
    await eventually(is_deleted)
    samples = await metrics(service)
    assert samples[GRANTED] == 20
    assert not (folder / "counter_1.db").exists()
    assert samples['vapi_sessions_vapi_state{state="off"}'] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_folder_is_in_memory_and_deleted_at_the_end(start: Start) -> None:
    service = await start(TWO_WORKERS, METRICS_ENABLED="true")
    assert SCRAPED not in await metrics(service)
    [folder] = mapped_folders(service.workers())
    assert folder.parent == Path("/dev/shm")
    assert folder.is_dir()
    service.process.terminate()
    await service.left()
    assert not folder.exists()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 512 KiB: there is room for the metrics of one worker, not of two."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_worker_without_room_has_no_metrics_and_serves(small: Path, start: Start) -> None:
    service = await start(
        TWO_WORKERS, METRICS_ENABLED="true", RATE_LIMIT="off", PROMETHEUS_MULTIPROC_DIR=str(small)
    )
    await service.log.find("has no room: this process has no metrics")
    for number in range(40):  # of one worker or the other
        assert (await exchange(service, start_request(f"pt_{number}"))).status == 200
    statuses = {(await exchange(service, get("/metrics"))).status for _ in range(40)}
    assert statuses <= {200, 404}
    assert len(service.workers()) == 2
    assert len(service.log.matching("WARNING")) == 1
