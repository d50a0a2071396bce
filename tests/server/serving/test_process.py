"""The process of the service: start and termination."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from rig.issuer import eventually
from rig.process import ALONE, started
from rig.service import NO_FILE, PATH, VARIABLES, make_settings, sign
from rig.wire import post
from server.app import create_app
from server.serving.process import EX_CONFIG, load_or_exit, serve
from server.serving.runner import Runner
from tests.table import NOWHERE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_terminates_the_service(number: signal.Signals) -> None:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    runner = Runner(create_app(make_settings()), grace=0.1)
    serving_ = asyncio.create_task(serve(runner, "127.0.0.1", 0, on_start=started.set_result))
    url = f"http://127.0.0.1:{await started}"
    async with ClientSession() as client, client.get(f"{url}/healthz") as answer:
        assert answer.status == 200
    os.kill(os.getpid(), number)
    await serving_
    assert not runner.sites


async def test_new_connections_are_served_during_the_delay() -> None:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    runner = Runner(create_app(make_settings()), grace=0.5, delay=0.5)
    serving_ = asyncio.create_task(serve(runner, "127.0.0.1", 0, on_start=started.set_result))
    url = f"http://127.0.0.1:{await started}"
    os.kill(os.getpid(), signal.SIGTERM)
    async with ClientSession() as client:
        await eventually(lambda: is_shutting_down(client, url))
        for _ in range(3):
            async with ClientSession() as other, other.get(f"{url}/healthz") as answer:
                assert answer.status == 200
                assert "Connection" not in answer.headers
    assert not serving_.done()
    await serving_


async def is_shutting_down(client: ClientSession, url: str) -> bool:
    async with client.get(f"{url}/readyz") as answer:
        return answer.status == 503 and (await answer.json())["status"] == "shutting down"


async def test_second_sigint_ends_the_process_at_once(tmp_path: Path) -> None:
    variables = {**VARIABLES, "SHUTDOWN_DELAY_SECONDS": "30"}
    async with started(ALONE, tmp_path, variables) as served, ClientSession() as client:
        served.process.send_signal(signal.SIGINT)
        await eventually(lambda: is_shutting_down(client, served.url))
        ended = await served.terminate(signal.SIGINT)
    assert ended.status == -signal.SIGINT
    assert "Traceback" not in ended.err


async def test_all_addresses_are_those_of_both_families(tmp_path: Path) -> None:
    async with (
        started(ALONE, tmp_path, {**VARIABLES, "HOST": "::"}) as served,
        ClientSession() as client,
    ):
        for host in ("127.0.0.1", "[::1]"):
            async with client.post(f"http://{host}:{served.port}{PATH}") as answer:
                assert answer.status == 401
        ended = await served.terminate()
    peers = [json.loads(line)["peer"] for line in ended.out.splitlines()]
    assert peers == ["127.0.0.1", "::1"]


async def test_port_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    runner = Runner(create_app(make_settings()), grace=0.1)
    serving_ = asyncio.create_task(serve(runner, "127.0.0.1", 0))
    async with asyncio.timeout(10):
        while "serving on 127.0.0.1 port" not in caplog.text:  # noqa: ASYNC110  a log has no event
            await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    await serving_


async def test_failed_start_is_cleaned_up() -> None:
    def fail(_: int) -> None:
        raise ZeroDivisionError

    runner = Runner(create_app(make_settings()), grace=0.1)
    with pytest.raises(ZeroDivisionError):
        await serve(runner, "127.0.0.1", 0, on_start=fail)
    assert not runner.sites


async def test_failed_startup_of_the_application_is_cleaned_up() -> None:
    async def fail(_: web.Application) -> None:
        raise ZeroDivisionError

    app = create_app(make_settings(VAPI_CHECK_SECONDS="30", VAPI_BASE_URL=f"http://{NOWHERE}"))
    app.on_startup.append(fail)
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        await serve(Runner(app, grace=0.1), "127.0.0.1", 0)
    assert asyncio.all_tasks() == before


@pytest.mark.usefixtures("configured")
def test_valid_settings_are_returned() -> None:
    assert load_or_exit().settings == make_settings()
    assert not NO_FILE.exists()


@pytest.mark.usefixtures("unconfigured")
def test_invalid_settings_end_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_or_exit()
    assert caught.value.code == EX_CONFIG == 78
    assert caught.value.__suppress_context__
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Invalid configuration:"
    assert lines[1:-1] == sorted(lines[1:-1])
    assert "config.example.env" in lines[-1]


async def test_process_answers_every_request_before_it_ends(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("\n".join(f"{n}={v}" for n, v in VARIABLES.items()))
    async with started(ALONE, tmp_path, {"RATE_LIMIT": "off", "LOG_LEVEL": "INFO"}) as served:
        async with ClientSession() as client:
            headers = {"Authorization": f"Bearer {sign()}"}
            for _ in range(40):  # more than the limit that an unset RATE_LIMIT would be
                async with client.post(served.url + PATH, headers=headers) as answer:
                    assert answer.status == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        sent = post(b"{}", token=sign())
        writer.write(sent[:-1])
        await writer.drain()
        async with ClientSession() as client, client.get(f"{served.url}/healthz") as answer:
            assert answer.status == 200  # by now the incomplete request has been read
        ending = asyncio.create_task(served.terminate())
        await asyncio.sleep(0)
        writer.write(sent[-1:])
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
        ended = await ending
    assert ended.status == 0
    assert len(ended.out.splitlines()) == 41
    assert "Traceback" not in ended.err


async def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("JWT_SECRET=${JWT}'#\nMETRICS_ENABLED=true\n")
    variables = {**VARIABLES, "METRICS_ENABLED": "", "JWT_SECRET": '${HOME} "#" ' + "x" * 40}
    async with started(ALONE, tmp_path, variables) as served, ClientSession() as client:
        token = sign(key=variables["JWT_SECRET"])
        headers = {"Authorization": f"Bearer {token}"}
        async with client.post(served.url + PATH, headers=headers) as answer:
            assert answer.status == 200
        async with client.get(f"{served.url}/metrics") as answer:
            assert answer.status == 200
