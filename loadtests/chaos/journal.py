"""The service with its standard output in a real journald, under the unit's own limits.

Without systemd, this does what systemd does for a unit: it puts the service into the unit's control
group, by which journald counts, and hands journald the limits of the unit.
"""

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from loadtests.chaos.machine import control_groups, program
from loadtests.chaos.rig import Rig, rig
from rig.process import ROOT
from rig.waiting import until

_UNIT: Final = "vapi-sessions-chaos.service"
_HEADER: Final = f"vapi-sessions\n{_UNIT}\n6\n0\n0\n0\n0\n"
_SETTINGS: Final = (
    "[Journal]\\nStorage=volatile\\nRateLimitIntervalSec=30s\\nRateLimitBurst=100\\n"
    "ReadKMsg=no\\nAudit=\\nForwardToSyslog=no\\nForwardToWall=no\\nRuntimeMaxUse=400M\\n"
)
_START: Final = f"""
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journald.conf.d /run/systemd/units /run/systemd/journal /run/log/journal
printf '{_SETTINGS}' > /run/systemd/journald.conf.d/chaos.conf
for limit in "$@"; do
    ln -s "${{limit#*=}}" "/run/systemd/units/log-rate-limit-${{limit%%=*}}:{_UNIT}"
done
exec {program("systemd-journald")}
"""


def unit_limits() -> list[str]:
    """Return the limits of the unit as systemd passes them on: an interval of 0 is not passed."""
    unit = (ROOT / "deploy" / "systemd" / "vapi-sessions.service").read_text("utf-8")
    found = re.findall(r"^LogRateLimit(Burst|IntervalSec)=(\d+)$", unit, re.MULTILINE)
    names = {"Burst": "burst", "IntervalSec": "interval"}
    return [f"{names[name]}={value}" for name, value in found if value != "0"]


@asynccontextmanager
async def _journald() -> AsyncIterator[Path]:
    """Run journald in a file system of its own; yield the root of that."""
    process = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "sh", "-e", "-c", _START, "sh", *unit_limits()
    )
    try:
        root = Path(f"/proc/{process.pid}/root")
        await until(lambda: any((root / "run/log/journal").glob("*/system.journal")))
        yield root
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def _following(root: Path) -> AsyncIterator[int]:
    """Follow the messages of the service; yield the file descriptor to read them from."""
    read, write = os.pipe()
    options = ("-D", str(root / "run/log/journal"), "-t", "vapi-sessions", "-f", "-n", "all")
    process = await asyncio.create_subprocess_exec(
        *("journalctl", *options, "-o", "cat"), stdout=write
    )
    os.close(write)
    try:
        yield read
    finally:
        process.terminate()
        await process.wait()


def _stream(root: Path) -> int:
    """Open the stream that a unit's standard output is; return its file descriptor."""
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(str(root / "run/systemd/journal/stdout"))
    stream.sendall(_HEADER.encode())
    return stream.detach()


@asynccontextmanager
async def journal_rig() -> AsyncIterator[Rig]:
    """Start everything, with the audit log in the journal and read from there."""
    group = control_groups() / "system.slice" / _UNIT
    group.mkdir(parents=True)
    prefix = ("sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(group))
    try:
        async with (
            _journald() as root,
            _following(root) as read,
            rig(prefix=prefix, output=(read, _stream(root))) as target,
        ):
            yield target
    finally:
        with suppress(OSError):
            group.rmdir()
            group.parent.rmdir()
