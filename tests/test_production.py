"""The settings of the Kubernetes overlay, and a restriction of the systemd unit."""

import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rig.issuer import ISSUER, Issuer, issuing, key
from rig.process import ROOT, started
from rig.redis_server import RedisServer
from rig.service import PATH, PRIVATE_KEY, VARIABLES, claims

KUBERNETES = ROOT / "deploy" / "kubernetes"
GUNICORN = Path(sys.executable).with_name("gunicorn")
COMMAND = [str(GUNICORN), "server.app:app_factory", "-k", "aiohttp.GunicornUVLoopWebWorker"]
DENY_WRITE_EXECUTE = (
    "import ctypes, os, sys; "
    "assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0; "  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    "os.execv(sys.argv[1], sys.argv[1:])"
)
ROLE_CLAIM = "https://clinic.example/roles"
AUDIENCE = "https://north.clinic.example"
PATIENT = {"sub": "auth0|pt_1", ROLE_CLAIM: ["patient"], "aud": AUDIENCE, "jti": "token-1"}


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


def settings_of(overlay: str) -> dict[str, str]:
    """Return the settings of a clinic: those of the base, and its own."""
    files = [KUBERNETES / "base", KUBERNETES / "overlays" / overlay]
    lines = [line for each in files for line in (each / "settings.env").read_text().splitlines()]
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.redis
async def test_kubernetes_settings_admit_patients_only(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with issuing(key(algorithm="RS256")) as issuer:
        settings = local(settings_of("north"), issuer, redis_server)
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
