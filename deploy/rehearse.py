"""Takes the steps of deploy/Dockerfile without an engine: `python deploy/rehearse.py`.

What it copies is copied into a fresh folder, what it runs is run there, the command is started in
another folder that holds nothing but what the second stage copies, and the health check is asked.
Not rehearsed: FROM and USER, which are the engine's. Exit status 0: it was healthy, and left well.
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
    """Read the Dockerfile's instructions."""
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
    """Ask the health check until it is content, for 30 seconds at most."""
    for _ in range(60):
        asked = subprocess.run(check, env=environ, cwd=folder, capture_output=True, check=False)
        if asked.returncode == 0:
            return True
        time.sleep(0.5)
    return False


def rehearse(image: Path) -> int:
    """Build and run in a folder."""
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
        left = process.wait()
    print(f"{'healthy' if good else 'NOT healthy'}; it left with {left}")
    return 0 if good and left == 0 else 1


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        sys.exit(rehearse(Path(name)))
