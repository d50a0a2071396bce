"""`make load`: locust against the service and the stand-in for Vapi, each a process of its own.

Environment variables: USERS (50), SECONDS (30) and WORKERS (0: one process, without gunicorn) set
the load. HOST selects a service that is already running, with JWT_SECRET to sign tokens. The report
is written to build/load/report.html. Exit status 1: unexpected responses, or p99 above the budget.
"""

import asyncio
import os
import sys

from loadtests.target import serving
from rig.process import ROOT
from rig.service import SECRET

REPORT = ROOT / "build" / "load"


async def run(url: str, secret: str) -> int:
    """Load the service at an address. Return locust's exit status."""
    users, seconds = os.environ.get("USERS") or "50", os.environ.get("SECONDS") or "30"
    REPORT.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "locust", "--locustfile", "loadtests/locustfile.py"),
        *("--headless", "--only-summary", "--host", url, "--users", users, "--spawn-rate", users),
        *("--run-time", f"{seconds}s", "--stop-timeout", "10", "--loglevel", "WARNING"),
        *("--html", str(REPORT / "report.html"), "--csv", str(REPORT / "report")),
    ]
    environ = {**os.environ, "JWT_SECRET": secret, "PYTHONPATH": str(ROOT)}
    locust = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environ)
    status = await locust.wait()
    print(f"The report: {REPORT / 'report.html'}")
    return status


async def main() -> int:
    """Load the service at HOST, or one that is started for the test."""
    if host := os.environ.get("HOST"):
        secret = os.environ.get("JWT_SECRET")
        if not secret:
            raise SystemExit("HOST needs JWT_SECRET, the secret that its tokens are signed with")
        return await run(host, secret)
    async with serving(workers=int(os.environ.get("WORKERS") or "0")) as target:
        return await run(target.url, SECRET)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
