"""`systemctl`, `journalctl` and `make install` for tests: what the documents ask of them.

    python -m rig.systemd PROGRAM ARGUMENTS

`make install` makes programs that run the code of their own folder, with the packages of the tests.
A unit's credentials are copied, its environment and its folder set, and its command is started; the
journal is a file. `SYSTEMD_ROOT` is the folder with `etc`. nginx is started by its first reload.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from time import sleep


def _unit(root: Path, name: str) -> tuple[str, str]:
    """Return the text of a unit with its specifiers replaced, and the folder of its credentials."""
    template, at, instance = name.partition("@")
    credentials = root / "credentials" / name
    text = (root / "etc/systemd/system" / f"{template}{at}.service").read_text("utf-8")
    return text.replace("%i", instance).replace("%d", str(credentials)), str(credentials)


def _start(root: Path, name: str) -> None:
    text, credentials = _unit(root, name)
    settings = re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
    values = dict(settings)
    Path(credentials).mkdir(parents=True, exist_ok=True)
    environ = {"PATH": os.environ["PATH"]}
    for key, value in settings:
        if key == "LoadCredential":
            file, _, source = value.partition(":")
            shutil.copy(source, Path(credentials, file))
        elif key == "Environment":
            environ |= dict(pair.split("=", 1) for pair in shlex.split(value))
    with (root / f"{name}.journal").open("ab") as journal:
        process = subprocess.Popen(
            shlex.split(values["ExecStart"]),
            cwd=values["WorkingDirectory"],
            env=environ,
            stdout=journal,
            stderr=journal,
            start_new_session=True,
        )
    (root / f"{name}.pid").write_text(str(process.pid))


def _stop(root: Path, name: str) -> None:
    """End a unit; its descendants may take as long as they need."""
    pid = int((root / f"{name}.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    while Path(f"/proc/{pid}/status").exists() and not _is_zombie(pid):
        sleep(0.02)


def _is_zombie(pid: int) -> bool:
    return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


def _install(folder: Path) -> None:
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "gunicorn"):
        real = Path(sys.executable).with_name(name)
        (programs / name).write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {real} "$@"\n')
        (programs / name).chmod(0o755)


def _reload_nginx(root: Path) -> None:
    from rig.process import children  # it imports the service: no other step needs it

    if pid := (root / "nginx.pid").read_text():  # `nginx -t` leaves an empty file
        old = set(children(int(pid)))
        os.kill(int(pid), signal.SIGHUP)
        while old & set(children(int(pid))):  # until then, old workers accept connections
            sleep(0.02)
    else:
        subprocess.run(["nginx"], check=True)


def main(program: str, *arguments: str) -> None:
    """Do what the documents ask of these programs. Raises SystemExit otherwise."""
    root = Path(os.environ["SYSTEMD_ROOT"])
    match (program, *arguments):
        case ("systemctl", "daemon-reload"):
            pass
        case ("systemctl", "enable", "--now", name):
            _start(root, name)
        case ("systemctl", "restart", name):
            _stop(root, name)
            _start(root, name)
        case ("make", "-C", folder, "install"):
            _install(Path(folder))
        case ("systemctl", "reload", "nginx"):
            _reload_nginx(root)
        case ("journalctl", "-u", name, "-n", count, "-o", "cat"):
            with (root / f"{name}.journal").open() as journal:
                sys.stdout.writelines(deque(journal, int(count)))
        case _:
            raise SystemExit(f"not done here: {program} {' '.join(arguments)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
