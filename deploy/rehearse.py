"""Runs the steps of deploy/Dockerfile without a container engine: `python deploy/rehearse.py`.

COPY and RUN are done in a new folder. The command is started in a folder that contains only what
the second stage copies, and the health check is run. FROM and USER need an engine and are skipped.
The exit status is 0 if the service was healthy and ended with 0.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
PLACE = "/opt/vapi-sessions"
EXAMPLE = {
    "VAPI_API_KEY": "rehearsal-private-key",
    "VAPI_PUBLIC_API_KEY": "rehearsal-public-key",
    "VAPI_ASSISTANT_ID": "rehearsal-assistant",
    "VAPI_CHECK_SECONDS": "0",
    "JWT_SECRET": "rehearsal-secret-of-more-than-32-bytes",
    "HOST": "127.0.0.1",
}


def steps() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "deploy" / "Dockerfile").read_text("utf-8"))
    return re.findall(r"^([A-Z]+) (.+)$", text, re.MULTILINE)


def copy(argument: str, folder: Path) -> None:
    """Copy as COPY does, into the working folder."""
    *sources, target = argument.split()
    for source in sources:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, folder / target)
        else:
            shutil.copy(ROOT / source, folder / target)


def healthy(check: list[str], environ: dict[str, str], folder: Path) -> bool:
    """Run the health check until it succeeds, for at most 30 seconds."""
    for _ in range(60):
        checked = subprocess.run(check, env=environ, cwd=folder, capture_output=True, check=False)
        if checked.returncode == 0:
            return True
        time.sleep(0.5)
    return False


def rehearse(image: Path) -> int:
    """Build and run in a folder; return the exit status."""
    place, work = image / "opt", image
    environ = {"PATH": os.environ["PATH"], "HOME": str(image), **EXAMPLE}
    command, check = [], []
    for name, argument in steps():
        here = argument.replace(PLACE, str(place))
        here = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", here)  # the image has one
        if name == "WORKDIR":
            work = image / argument.strip("/")
            work.mkdir()
        elif name == "COPY" and not argument.startswith("--from="):
            copy(argument, work)
        elif name == "RUN" and "useradd" not in argument:
            subprocess.run(["sh", "-c", here], cwd=work, env=environ, check=True)
        elif name == "ENV":
            pairs = here.replace("$PATH", environ["PATH"]).split()
            environ |= dict(pair.split("=", 1) for pair in pairs)
        elif name == "HEALTHCHECK":
            check = json.loads(argument.partition("CMD ")[2])
        elif name == "CMD":
            command = json.loads(argument)
    environ["PORT"] = os.environ.get("PORT", "8080")
    with subprocess.Popen(command, cwd=work, env=environ) as process:
        good = healthy(check, environ, work)
        process.terminate()
        status = process.wait()
    print(f"{'healthy' if good else 'NOT healthy'}; exit status {status}")
    return 0 if good and status == 0 else 1


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        sys.exit(rehearse(Path(name)))
