"""A machine for the steps of the documents: its own `/etc`, `/opt` and ports, in a folder."""

import asyncio
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rig.process import ROOT

_FOLDERS = re.compile(r"(?<![\w/.-])/(etc|opt)/(?=nginx|ssl|vapi-sessions|systemd|haproxy)")
_CODE = ("server", "middlewares", "deploy", "gunicorn.conf.py", "config.example.env")
_CACHES = shutil.ignore_patterns("__pycache__")
_NGINX = """pid {root}/nginx.pid; error_log {root}/nginx.log; events {{}}
http {{ access_log off; {temporary} include {root}/etc/nginx/conf.d/*.conf; }}
"""


def make_certificate(folder: Path, *hosts: str) -> Path:
    """Create a certificate of the hosts in `tls.pem`, with its key in `tls.key`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ",".join(f"DNS:{host}" for host in hosts)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    files = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.pem")]
    subject = ["-subj", f"/CN={hosts[0]}", "-addext", f"subjectAltName={names}"]
    subprocess.run([*command, "-nodes", *files, *subject], check=True, capture_output=True)
    return folder / "tls.pem"


@dataclass
class Machine:
    """Runs shell commands of the documents; `ports` maps their ports to free ones."""

    root: Path
    hosts: tuple[str, ...]
    ports: Mapping[str, int]
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Create the folders, the certificate and the programs."""
        for folder in (
            "bin",
            "etc/nginx/conf.d",
            "etc/systemd/system",
            "etc/ssl/private",
            "etc/haproxy/certs",
        ):
            (self.root / folder).mkdir(parents=True)
        self.certificate = make_certificate(self.root / "tls", *self.hosts)
        for host in self.hosts:
            shutil.copy(self.certificate, self.root / f"etc/ssl/{host}.pem")
            shutil.copy(self.root / "tls/tls.key", self.root / f"etc/ssl/private/{host}.key")
        key = (self.root / "tls/tls.key").read_text()
        (self.root / "etc/haproxy/certs/clinics.pem").write_text(self.certificate.read_text() + key)
        for program in ("systemctl", "journalctl", "make"):
            self._program(program, f'{sys.executable} -m rig.systemd {program} "$@"')
        self._program("apt", "true")
        self._program("nginx", f'{shutil.which("nginx")} -c {self.root}/etc/nginx/nginx.conf "$@"')
        kinds = ("proxy", "client_body", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {self.root}/{kind};" for kind in kinds)
        (self.root / "etc/nginx/nginx.conf").write_text(
            _NGINX.format(root=self.root, temporary=temporary)
        )
        lines = [f"connect-to = {host}:443:127.0.0.1:{self.ports['443']}" for host in self.hosts]
        (self.root / ".curlrc").write_text("\n".join([*lines, f"cacert = {self.certificate}"]))

    @property
    def port(self) -> int:
        """The port that stands for 443."""
        return self.ports["443"]

    async def connect(self, client: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a TLS connection to the first host, from an address of the client's own."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        source = (f"127.0.1.{client}", 0)
        return await asyncio.open_connection(
            *("127.0.0.1", self.port),
            ssl=context,
            server_hostname=self.hosts[0],
            local_addr=source,
        )

    def _program(self, name: str, command: str) -> None:
        file = self.root / "bin" / name
        file.write_text(f"#!/bin/sh\nexec {command}\n")
        file.chmod(0o755)

    def local(self, text: str) -> str:
        """Replace the paths and the ports of this machine in a text."""
        text = _FOLDERS.sub(rf"{self.root}/\1/", text)
        text = text.replace("REPOSITORY", str(self.root / "repository"))
        for port, free in self.ports.items():
            text = re.sub(rf"(?<=127\.0\.0\.1:){port}\b|(?<=PORT=){port}\b", str(free), text)
        return re.sub(r"\b(listen|bind) :?443\b", rf"\1 127.0.0.1:{self.ports['443']}", text)

    def localize(self) -> None:
        """Replace them in the files that were copied to `/etc`."""
        for file in [*self.root.glob("etc/nginx/**/*.conf"), *self.root.glob("etc/**/*.service")]:
            file.write_text(self.local(file.read_text("utf-8")), "utf-8")

    def publish(self, version: str) -> None:
        """Commit this code as a version, with its tag, to the repository of the machine."""
        repository = self.root / "repository"
        for name in _CODE:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, repository / name, ignore=_CACHES, dirs_exist_ok=True)
            else:
                shutil.copy(source, repository / name)
        module = repository / "server" / "__init__.py"
        module.write_text(re.sub(r'(?<=Final = ").*(?=")', version, module.read_text("utf-8")))
        identity = ("-c", "user.name=Test", "-c", "user.email=test@clinic.example")
        for command in ("init -q", "add .", f"commit -q -m {version}", f"tag v{version}"):
            subprocess.run(["git", *identity, *command.split()], cwd=repository, check=True)

    async def sh(self, commands: str, stdin: str = "") -> str:
        """Run commands line by line; return their output. Raises AssertionError."""
        return "\n".join([await self._line(line, stdin) for line in commands.splitlines()])

    async def _line(self, command: str, stdin: str) -> str:
        environ = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "CURL_HOME": str(self.root),
            "SYSTEMD_ROOT": str(self.root),
            **self.environ,
        }
        process = await asyncio.create_subprocess_exec(
            *("sh", "-e", "-c", self.local(command)),
            env=environ,
            cwd=self.root,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        out, err = await process.communicate(stdin.encode())
        assert process.returncode == 0, f"{command}\n{out.decode()}\n{err.decode()}"
        self.localize()
        return out.decode()

    def pid(self, unit: str) -> int:
        """Return the process id of a unit's main process."""
        return int((self.root / f"{unit}.pid").read_text())

    def stop(self) -> None:
        """End what `systemctl` started."""
        for file in self.root.glob("*.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), signal.SIGTERM)
