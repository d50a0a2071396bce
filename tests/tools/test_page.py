"""The steps of docs/tools/README.md, run as they are written there."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep, time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from rig.redis_server import free_port
from sandbox import tool_call
from tests import npm
from tests.tools.node import FOLDER, TOOLS
from tests.tools.proofs import TABLE

pytestmark = pytest.mark.timeout(180)  # several processes, and a package to install

ROOT = TOOLS.parents[1]
PAGE = (TOOLS / "README.md").read_text()
CALL = ".venv/bin/python -m sandbox.tool_call http://127.0.0.1:9000/"


def block(language: str, start: str) -> str:
    """Return the one block of code in a language that contains `start`."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    [found] = [text for named, text in blocks if named == language and start in text]
    return str(found)


@contextmanager
def program(*command: str, cwd: Path, **environ: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a program until the end of the test."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=cwd, env={**os.environ, **environ}, stdout=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.fixture
def development() -> Iterator[tuple[str, dict[str, str]]]:
    """Run step 1; give the address of the service, and the variables that it prints."""
    with program(sys.executable, "-m", "sandbox", cwd=ROOT, PORT=str(free_port())) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Press Ctrl-C" in line:
                break
        text = "".join(lines)
        variables = dict(re.findall(r"^export (\w+)=(\S+)$", text, re.MULTILINE))
        yield variables["JWKS_URL"].partition("/.well-known")[0], variables


def tool_server_folder(folder: Path) -> Path:
    """Run step 2, in a folder of the test."""
    script = block("sh", "mkdir -p").replace("/tmp/tool-server", str(folder))
    subprocess.run(["sh", "-euc", script], cwd=ROOT, check=True)
    return folder


@pytest.fixture(params=["python", "js"])
def tool_server(
    request: pytest.FixtureRequest, tmp_path: Path, development: tuple[str, dict[str, str]]
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run steps 3 and 4; give the address of the tool server, and its process."""
    folder, port = tool_server_folder(tmp_path / "tool-server"), str(free_port())
    if request.param == "python":
        (folder / "server.py").write_text(block("python", "import json"))
        command = (sys.executable, "server.py")
    else:
        npm.install(FOLDER)
        (folder / "node_modules").symlink_to(FOLDER / "node_modules")
        (folder / "server.mjs").write_text(block("js", "import { createServer }"))
        command = ("node", "server.mjs")
    with program(*command, cwd=folder, PORT=port, **development[1]) as process:
        wait_for(int(port))
        yield f"http://127.0.0.1:{port}/", process


def wait_for(port: int) -> None:
    """Return when a server listens there; the test's time limit ends the wait."""
    while True:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        sleep(0.05)  # of another process


def call_tool(service: str, url: str) -> str:
    """Run step 5; return what the command prints."""
    command = [sys.executable, "-m", "sandbox.tool_call", url, "--service", service]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_verified_patient_id_and_each_refusal(
    development: tuple[str, dict[str, str]],
    tool_server: tuple[str, "subprocess.Popen[str]"],
    capsys: pytest.CaptureFixture[str],
) -> None:
    service, (url, process) = development[0], tool_server
    for headers in ({}, {"x-signature": "0" * 64, "x-timestamp": str(int(time()))}):
        request = Request(url, data=b'{"message": {}}', headers=headers, method="POST")
        with pytest.raises(HTTPError) as refused, urlopen(request):
            pass
        assert refused.value.code == 401
        refused.value.close()
    expected = re.escape(block("", "200 {").strip()).replace("…", "[0-9a-f]+")
    without_spaces = re.sub(r'(?<=[:,]) (?=["\[{])', "", call_tool(service, url))
    assert re.fullmatch(expected, without_spaces)
    commands = re.findall(rf"^{re.escape(CALL)} (--proof \w+)$", PAGE, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        assert tool_call.main([url, "--service", service, *command.split()]) == 0
        assert "The patient could not be verified." in capsys.readouterr().out
    process.terminate()
    assert process.stdout is not None
    log = process.stdout.read().splitlines()
    reasons = [line.split()[1] for line in log if line.startswith("refused:")]
    assert reasons == ["webhook", "webhook", "signature", "window", "replayed", "missing"]


def test_every_reason_is_in_the_table() -> None:
    cells = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    documented = {reason for cell in cells for reason in re.findall(r"`(\w+)`", cell)} - {"reason"}
    raised = {row.reason for group in TABLE for row in group() if row.reason}
    for name in ("verify_patient.py", "vapi_webhook.py"):
        code = (TOOLS / name).read_text()
        raised |= set(re.findall(r'(?:ensure\([^"]*|ProofError\()"(\w+)", f?"', code))
    assert documented == raised
