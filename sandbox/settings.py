"""The settings of development mode."""

from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from uuid import uuid4

from sandbox.patients import ENGLISH, GERMAN
from sandbox.serving import HOST, bind
from sandbox.tools.proofs import new_proof_key
from server.config import Settings, load_settings
from server.config.settings import VARIABLES

PORT = 8080
PROOF_AUDIENCE = "https://tools.clinic.example"
# These configure development mode, or every program of the machine; any other setting disables it.
_NO_CONFIGURATION = frozenset(
    {"HOST", "PORT", "LOG_LEVEL", "LOG_FORMAT", "CORS_ALLOWED_ORIGINS", "CONSENT_REQUIRED"}
    | {"HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"}
)
_LOOPBACK = frozenset({"", HOST, "localhost", "::1"})


def is_configured(environ: Mapping[str, str], dotenv: Path) -> bool:
    """Return whether the service is configured, validly or not."""
    return dotenv.exists() or any(environ.get(name) for name in VARIABLES - _NO_CONFIGURATION)


def wants_other_hosts(environ: Mapping[str, str]) -> bool:
    """Return whether `HOST` requests an address other than loopback."""
    return environ.get("HOST", "") not in _LOOPBACK


def _port(named: str) -> str:
    """Return the requested port, else the default port, else a free one."""
    if named not in {"", "0"}:
        return named
    try:
        listener = bind(PORT)
    except OSError:
        listener = bind()
    with listener:
        return str(listener.getsockname()[1])


def development_settings(environ: Mapping[str, str], vapi: str) -> Settings:
    """Return settings with generated secrets, for a stand-in at the address `vapi`."""
    port = _port(environ.get("PORT", ""))
    english, german = str(uuid4()), str(uuid4())
    generated = {
        "HOST": HOST,
        "PORT": port,
        "CORS_ALLOWED_ORIGINS": environ.get("CORS_ALLOWED_ORIGINS", ""),
        "CONSENT_REQUIRED": environ.get("CONSENT_REQUIRED", ""),
        "LOG_LEVEL": environ.get("LOG_LEVEL") or "WARNING",
        "LOG_FORMAT": environ.get("LOG_FORMAT") or "console",
        "VAPI_API_KEY": str(uuid4()),
        "VAPI_PUBLIC_API_KEY": str(uuid4()),
        "VAPI_ORG_ID": str(uuid4()),
        "VAPI_ASSISTANT_ID": english,
        "VAPI_ASSISTANTS": f"{ENGLISH}:{english},{GERMAN}:{german}",
        "VAPI_ASSISTANT_CLAIM": "assistants",
        "VAPI_BASE_URL": vapi,
        # Short, so that an outage is noticed soon.
        "VAPI_CHECK_SECONDS": "1",
        "JWT_SECRET": token_hex(32),
        "JWT_REQUIRED_SCOPE": "voice:start",
        "PROOF_KEY": new_proof_key(),
        "PROOF_ISSUER": f"http://{HOST}:{port}",
        "PROOF_AUDIENCE": PROOF_AUDIENCE,
        "METRICS_ENABLED": "true",
        "DOCS_ENABLED": "true",
    }
    return load_settings(generated, dotenv=Path("/nonexistent/.env"))
