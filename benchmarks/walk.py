"""`make walk`: the own functions that one granted request runs, in their order.

The service runs in this process with `sys.setprofile`, and a thread sends requests. Each line is a
file and the functions that run before the next change of file. A coroutine that continues counts
as a call; libraries are left out. The shortest walk of several requests is printed: timers add to
the others.
"""

import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from signal import SIGTERM
from threading import Thread
from time import sleep
from types import FrameType

from rig.process import ROOT
from rig.redis_server import free_port
from rig.service import VARIABLES, claims, sign
from rig.wire import post
from server.cli.main import main as run_service

FOLDERS = (f"{ROOT / 'server'}/", f"{ROOT / 'middlewares'}/")
REQUESTS = 10
SETTLE_SECONDS = 0.1
"""What follows the response, such as the audit line, belongs to the walk."""

Step = tuple[str, str]
"""A file and the name of a function."""


class Recorder:
    """Records calls of own functions while `walk` is a list."""

    walk: list[Step] | None = None

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Take an event of the interpreter."""
        if event == "call" and self.walk is not None:
            code = frame.f_code
            if code.co_filename.startswith(FOLDERS):
                file = str(Path(code.co_filename).relative_to(ROOT))
                self.walk.append((file, code.co_qualname))

    def record(self, act: Callable[[], None]) -> list[Step]:
        """Return the calls while `act` runs and for a while after."""
        walk: list[Step] = []
        self.walk = walk
        act()
        sleep(SETTLE_SECONDS)
        self.walk = None
        return walk


def connect(port: int) -> socket.socket:
    """Connect, as soon as the service listens."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            sleep(0.05)


def exchange(client: socket.socket, token: str) -> None:
    """Send a request and read the response. Raises SystemExit when it is not granted."""
    client.sendall(post(b"{}", token=token))
    if not client.recv(65536).startswith(b"HTTP/1.1 200"):
        raise SystemExit("a valid request was refused")


def walks(port: int, recorder: Recorder) -> dict[str, list[Step]]:
    """Return the shortest walk of each kind of request."""
    tokens = [sign(claims(id=f"new_{number}")) for number in range(REQUESTS)]

    clients: list[socket.socket] = []

    def connect_and_exchange(token: str) -> None:
        clients.append(connect(port))
        exchange(clients[-1], token)

    with connect(port) as client:
        exchange(client, sign())
        new = [recorder.record(partial(connect_and_exchange, token)) for token in tokens]
        known = [recorder.record(lambda: exchange(client, tokens[0])) for _ in tokens]
    for client in clients:
        client.close()
    shortest = {"new connection, new token": new, "open connection, known token": known}
    return {name: min(each, key=len) for name, each in shortest.items()}


def report(name: str, walk: list[Step]) -> str:
    """Return the walk, one line for each change of file, and its figures."""
    lines = []
    for file, steps in groupby(walk, key=lambda step: step[0]):
        lines.append(f"  {file:<36} {', '.join(function for _, function in steps)}")
    changes = sum(before[0] != after[0] for before, after in pairwise(walk))
    files = len({file for file, _ in walk})
    figures = f"{len(walk)} calls of {len(set(walk))} own functions in {files} own files"
    return "\n".join([f"{name}: {figures}, {changes} changes of file", *lines, ""])


def main() -> int:
    """Serve, send requests from a thread, and print both walks."""
    port, recorder = free_port(), Recorder()
    os.environ |= {**VARIABLES, "PORT": str(port), "LOG_LEVEL": "ERROR", "RATE_LIMIT": "off"}
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the audit log

    def send() -> None:
        try:
            for name, walk in walks(port, recorder).items():
                print(report(name, walk), file=out, flush=True)
        finally:
            os.kill(os.getpid(), SIGTERM)

    client = Thread(target=send)
    client.start()
    sys.setprofile(recorder)
    status = run_service(["serve"])
    client.join()
    return status


if __name__ == "__main__":
    raise SystemExit(main())
