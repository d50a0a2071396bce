"""`python -m server` and gunicorn as forks of a process that has imported it.

The imports are most of a start, and a run of the tests starts some hundred processes. A fork is a
process like any other, with its own folder, environment, output and signals.
"""

import asyncio
import logging
import multiprocessing
import os
import runpy
import signal
import sys
from asyncio import StreamReader, StreamReaderProtocol
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["server.cli.main"])


class Fork:
    """A process with the interface of `asyncio.subprocess.Process` that the rig uses."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.pid: int = process.pid or 0
        self.stdout: StreamReader | None = None
        self.stderr: StreamReader | None = None

    @property
    def returncode(self) -> int | None:
        """Its exit status; negative after a signal, None while it runs."""
        return self._process.exitcode

    async def wait(self) -> int:
        """Wait for the end; return the exit status."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        sentinel = os.dup(self._process.sentinel)
        loop.add_reader(sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(sentinel)
            os.close(sentinel)
        return self._process.exitcode or 0

    def send_signal(self, number: int) -> None:
        """Send a signal. Raises ProcessLookupError when the process has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM. Raises ProcessLookupError when the process has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL. Raises ProcessLookupError when the process has ended."""
        self.send_signal(signal.SIGKILL)

    async def communicate(self) -> tuple[bytes, bytes]:
        """Read all output and wait for the end."""
        readers = (self.stdout, self.stderr)
        out, err = await asyncio.gather(*(each.read() if each else _nothing() for each in readers))
        await self.wait()
        return out, err


async def _nothing() -> bytes:
    return b""


async def fork(
    folder: Path, environ: Mapping[str, str], command: Sequence[str], stdout: int
) -> Fork:
    """Start `python -m server` or gunicorn; `stdout` as with `asyncio.subprocess`."""
    out_reader, out = _output(stdout)
    err_reader, err = _output(PIPE)
    target = (folder, dict(environ), command, out, err)
    process = _CONTEXT.Process(target=_run, args=target, daemon=True)
    process.start()
    out.close()
    err.close()
    forked = Fork(process)
    forked.stdout, forked.stderr = await _stream(out_reader), await _stream(err_reader)
    return forked


def _output(stdout: int) -> tuple[Connection | None, Connection]:
    """Return the end to read, if it is a pipe, and the end for the process."""
    if stdout == PIPE:
        return _CONTEXT.Pipe(duplex=False)
    descriptor = os.open(os.devnull, os.O_WRONLY) if stdout == DEVNULL else os.dup(stdout)
    return None, Connection(descriptor, readable=False)


async def _stream(connection: Connection | None) -> StreamReader | None:
    if connection is None:
        return None
    reader = StreamReader()
    pipe = os.fdopen(os.dup(connection.fileno()), "rb", buffering=0)
    connection.close()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: StreamReaderProtocol(reader), pipe)
    return reader


def _run(
    folder: Path,
    environ: Mapping[str, str],
    command: Sequence[str],
    out: Connection,
    err: Connection,
) -> None:
    """Run a command in this process."""
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    out.close()
    err.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    _, *arguments = command
    try:
        if arguments[0] == "-m":
            sys.argv[:] = arguments[1:]
            sys.path.insert(0, str(folder))
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            from server.serving import gunicorn

            gunicorn._process.end = gunicorn.EndOfService()  # shared memory of one master alone
            sys.argv[:] = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        logging.shutdown()  # an interpreter does that when it exits; a fork of this kind does not
