"""The steps of docs/operations.md: nginx with TLS, the settings of the manifest, the unit."""

import asyncio
import json
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from rig.issuer import ISSUER, Issuer, eventually, issuing, key
from rig.process import ROOT, started
from rig.redis_server import RedisServer
from rig.service import PATH, PRIVATE_KEY, VARIABLES, claims

PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
GUNICORN = Path(sys.executable).with_name("gunicorn")
COMMAND = [str(GUNICORN), "server.app:app_factory", "-k", "aiohttp.GunicornUVLoopWebWorker"]
DENY_WRITE_EXECUTE = (
    "import ctypes, os, sys; "
    "assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0; "  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    "os.execv(sys.argv[1], sys.argv[1:])"
)
ROLE_CLAIM = "https://clinic.example/roles"
AUDIENCE = "https://voice.clinic.example"
PATIENT = {"sub": "auth0|pt_1", ROLE_CLAIM: ["patient"], "aud": AUDIENCE, "jti": "token-1"}


def block(language: str, containing: str) -> str:
    """Return the code block of the page with this language that contains a text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (found,) = [each for each in blocks if containing in each]
    return str(found)


def settings_of(text: str) -> dict[str, str]:
    """Return the variables of an env block."""
    return dict(line.split("=", 1) for line in text.splitlines() if line)


def token_of(issuer: Issuer, **changes: Any) -> str:
    """Sign a token with the claims of the example."""
    return issuer.keys[0].token({**claims(id=..., type=..., iss=ISSUER), **PATIENT, **changes})


def local(settings: dict[str, str], issuer: Issuer, redis: RedisServer) -> dict[str, str]:
    """Replace the addresses of the example by those of this machine."""
    return settings | {
        "VAPI_API_KEY_FILE": "",
        "VAPI_PUBLIC_API_KEY": "",
        "JWT_SECRET": "",
        "VAPI_API_KEY": PRIVATE_KEY,
        "VAPI_CHECK_SECONDS": "0",
        "JWT_JWKS_URL": issuer.url,
        "JWT_ISSUER": ISSUER,
        "REDIS_URL_FILE": "",
        "REDIS_URL": redis.url,
        "HOST": "127.0.0.1",
        "PORT": "0",
    }


def make_certificate(folder: Path) -> Path:
    """Create a certificate of the example's host name."""
    files = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.pem")]
    name = [
        "-subj",
        "/CN=voice.clinic.example",
        "-addext",
        "subjectAltName=DNS:voice.clinic.example",
    ]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run([*command, "-nodes", *files, *name], check=True, capture_output=True)
    return folder / "tls.pem"


@asynccontextmanager
async def nginx(folder: Path, port: int, service_port: int) -> AsyncIterator[None]:
    """Run nginx with the configuration of the page."""
    certificate = make_certificate(folder)
    (folder / "proxy.conf").write_text(block("nginx", "proxy_pass"))
    server = (
        block("nginx", "ssl_certificate")
        .replace("127.0.0.1:8080", f"127.0.0.1:{service_port}")
        .replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
        .replace("/etc/ssl/voice.clinic.example.pem", str(certificate))
        .replace("/etc/ssl/private/voice.clinic.example.key", str(folder / "tls.key"))
        .replace("/etc/nginx/vapi-sessions-proxy.conf", str(folder / "proxy.conf"))
    )
    temporary = [
        f"{each}_temp_path {folder}/{each};" for each in ("proxy", "client_body", "fastcgi")
    ]
    temporary += [f"{each}_temp_path {folder}/{each};" for each in ("uwsgi", "scgi")]
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {' '.join(temporary)}\n{server}\n}}\n"
    )
    process = await asyncio.create_subprocess_exec(
        "nginx", "-c", str(configuration), "-p", str(folder)
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def post(url: str, token: str, *, source: str, certificate: Path) -> tuple[int, Any]:
    """Start a session from a loopback address, with a forged X-Forwarded-For."""
    context = ssl.create_default_context(cafile=str(certificate))
    connector = aiohttp.TCPConnector(ssl=context, local_addr=(source, 0))
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "203.0.113.9"}
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.post(url, headers=headers, server_hostname="voice.clinic.example") as response,
    ):
        return response.status, await response.json()


@pytest.mark.redis
@pytest.mark.skipif(shutil.which("nginx") is None, reason="Debian: apt install nginx")
async def test_operations_page_leads_to_a_granted_session(
    tmp_path: Path, redis_server: RedisServer, unused_tcp_port: int
) -> None:
    async with issuing(key(algorithm="RS256")) as issuer:
        settings = local(settings_of(block("env", "TRUSTED_PROXIES")), issuer, redis_server)
        async with (
            started(COMMAND, tmp_path, {**VARIABLES, **settings}) as running,
            nginx(tmp_path, unused_tcp_port, running.port),
        ):
            url = f"https://127.0.0.1:{unused_tcp_port}{PATH}"
            token = token_of(issuer)

            async def is_granted() -> bool:
                try:
                    status, _ = await post(
                        url, token, source="127.0.0.2", certificate=tmp_path / "tls.pem"
                    )
                except aiohttp.ClientConnectorError:
                    return False
                return status == 200

            await eventually(is_granted)
            line = json.loads((await running.audit.find('"outcome":"granted"')).string)
            assert (line["client"], line["peer"]) == ("127.0.0.2", "127.0.0.1")
            assert line["patient"] == "auth0|pt_1"


MANIFEST = {
    document["kind"]: document
    for document in yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text("utf-8"))
}


@pytest.mark.redis
async def test_kubernetes_settings_admit_patients_only(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with issuing(key(algorithm="RS256")) as issuer:
        settings = local(MANIFEST["ConfigMap"]["data"], issuer, redis_server)
        async with (
            started(
                COMMAND, tmp_path, {**VARIABLES, **settings, "WEB_CONCURRENCY": "1"}
            ) as running,
            aiohttp.ClientSession(f"http://127.0.0.1:{running.port}") as client,
        ):

            async def status(**changes: Any) -> int:
                headers = {"Authorization": f"Bearer {token_of(issuer, **changes)}"}
                async with client.post(PATH, headers=headers) as response:
                    return response.status

            assert await status() == 200
            assert await status(**{ROLE_CLAIM: ["doctor"]}) == 403
            assert await status(aud="https://other.example") == 401


async def test_service_runs_with_memory_deny_write_execute(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DENY_WRITE_EXECUTE, *COMMAND]
    async with (
        started(command, tmp_path, {**VARIABLES, "WEB_CONCURRENCY": "1"}) as running,
        aiohttp.ClientSession(f"http://127.0.0.1:{running.port}") as client,
        client.get("/healthz") as response,
    ):
        assert response.status == 200
