"""`make bench-start`: the time and the memory of a start, and the size of what is installed.

`git clone` makes an empty copy of the repository, whose `make run` installs and serves. After that
the service is started several times.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from rig.process import ROOT, environment, rss_megabytes
from rig.redis_server import free_port
from rig.service import VARIABLES

STARTS = 11


def first_answer(
    command: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> tuple[float, float]:
    """Start a service; return the seconds until it answers, and then its resident memory in MiB."""
    port = free_port()
    began = perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment(variables), "PYTHONPATH": "", "PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # `make` has children
    )
    try:
        while not answers(port):
            if process.poll() is not None:
                raise SystemExit(f"the service does not start: {' '.join(command)}")
            sleep(0.002)
        return perf_counter() - began, rss_megabytes(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def answers(port: int) -> bool:
    """Whether the service answers."""
    with suppress(HTTPError, URLError, OSError):
        urlopen(f"http://127.0.0.1:{port}/healthz").close()
        return True
    return False


def size(folder: Path) -> float:
    """Return the megabytes of all files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6


def main() -> None:
    """Print the table."""
    with TemporaryDirectory(prefix="vapi-sessions-clone-") as name:
        clone = Path(name) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        installed, _ = first_answer(["make", "run"], clone, {})
        megabytes = size(clone / ".venv")
        again, _ = first_answer(["make", "run"], clone, {})
        command = [str(clone / ".venv/bin/python"), "-m", "server"]
        starts = [first_answer(command, clone, VARIABLES) for _ in range(STARTS)]
    seconds, memory = (median(figures) for figures in zip(*starts, strict=True))
    print("| start and size | |\n| --- | ---: |")
    print(f"| `make run` in an empty clone, until it answers | {installed:.1f} s |")
    print(f"| `make run` again | {again:.2f} s |")
    print(f"| `python -m server`, until it answers (median of {STARTS}) | {seconds:.2f} s |")
    print(f"| resident memory then | {memory:.0f} MiB |")
    print(f"| `.venv` | {megabytes:.0f} MB |")


if __name__ == "__main__":
    main()
