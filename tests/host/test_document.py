"""docs/hosts.md: its program, run as it is printed, and its way out of a conflict of names."""

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp
import pytest

from rig.process import ROOT, environment
from rig.redis_server import free_port
from rig.service import PATH, SECRET, VARIABLES, claims, sign
from rig.waiting import eventually
from server import __version__

PAGE = (ROOT / "docs" / "hosts.md").read_text("utf-8")
PREFIXED = {f"VAPI_SESSIONS_{name}": value for name, value in VARIABLES.items()}
HOST_SECRET = "the-secret-of-the-host-of-more-than-32-bytes"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "host.py").write_text(code, "utf-8")
    (tmp_path / ".env").write_text("PORT=not for the service\nSOMETHING ELSE\n", "utf-8")
    return tmp_path / "host.py"


async def start(program: Path, port: int, **changed: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(program), str(port)),
        cwd=program.parent,
        env=environment({**PREFIXED, **changed}),
        stdout=PIPE,
        stderr=PIPE,
    )


async def test_program_serves_patients_beside_its_own_users(program: Path) -> None:
    port = free_port()
    process = await start(program, port)
    assert process.stdout is not None
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:

        async def status(method: str, path: str, token: str | None) -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with client.request(method, path, headers=headers) as response:
                return response.status

        async def listens() -> bool:
            try:
                return await status("GET", "/hello", None) > 0
            except aiohttp.ClientConnectorError:
                return False

        await eventually(listens)
        patient, user = sign(key=SECRET), sign(claims(sub="u"), HOST_SECRET)
        assert await status("POST", PATH, patient) == 200
        assert await status("POST", PATH, user) == 401
        assert await status("GET", "/hello", user) == 200
        assert await status("GET", "/hello", patient) in {401, 403}
        assert await status("POST", f"{PATH}/more", patient) in {401, 403}
    line = json.loads(await process.stdout.readline())
    assert (line["event"], line["outcome"]) == ("vapi_session_start", "granted")
    process.terminate()
    await process.communicate()


async def test_program_ends_with_every_fault(program: Path) -> None:
    process = await start(
        program, free_port(), VAPI_SESSIONS_JWT_SECRET="short", VAPI_SESSIONS_RATE_LIMIT="many"
    )
    _, errors = await process.communicate()
    assert process.returncode == 78
    faults = [line.partition(":")[0] for line in errors.decode().splitlines()]
    assert faults == ["VAPI_SESSIONS_JWT_SECRET", "VAPI_SESSIONS_RATE_LIMIT"]


@pytest.mark.parametrize(("options", "status"), [(("-P",), 0), ((), 1)])
async def test_package_called_server_in_the_host(
    options: tuple[str, ...], status: int, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server/__init__.py").touch()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *options, "-m", "server", "--version"),
        cwd=tmp_path,
        env=environment({}),
        stdout=PIPE,
        stderr=PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == status
    assert (output.decode().strip() == __version__) == (status == 0)
