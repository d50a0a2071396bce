"""The service's settings: every variable of `config.example.env`, as plain checked values."""

import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from server import consistency, rules
from server.variables import Variables

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class CredentialType(StrEnum):
    """What the app is handed to start its session with."""

    PUBLIC_KEY = "public_key"
    SESSION_TOKEN = "session_token"


class SettingsError(Exception):
    """The configuration does not hold; each of `faults` names a variable, and no value."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def _setting(default: Any, *held: rules.Rule, secret: bool = False) -> Any:
    """Declare a variable: its default (`MISSING`: required), the rules its value must hold."""
    return field(default=default, repr=not secret, metadata={"rules": held})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field for each variable, in lower case; times are seconds, `_bytes` are bytes.

    Of `jwt_secret`, `jwt_public_key` (a PEM, given or read from the file) and `jwt_jwks_url`
    exactly one is set. Secrets stay out of `repr`.
    """

    vapi_api_key: str = _setting(MISSING, rules.visible, secret=True)
    vapi_public_api_key: str = _setting("", rules.visible)
    vapi_assistant_id: str = _setting(MISSING, rules.visible)
    vapi_credential: str = _setting(CredentialType.PUBLIC_KEY, rules.one_of(*CredentialType))
    vapi_org_id: str = _setting("", rules.visible)
    vapi_token_ttl_seconds: int = _setting(120, rules.between(10, 3600))
    vapi_allowed_origins: tuple[str, ...] = _setting((), rules.visible_items)
    vapi_base_url: str = _setting("https://api.vapi.ai", rules.secure_url)
    vapi_check_seconds: float = _setting(30.0, rules.between(0, 3600))
    vapi_timeout_seconds: float = _setting(2.0, rules.between(0.01, 3600))

    jwt_secret: bytes = _setting(b"", secret=True)
    jwt_public_key: str = _setting("")
    jwt_public_key_file: str = _setting("")
    jwt_jwks_url: str = _setting("", rules.secure_url)
    jwt_algorithms: tuple[str, ...] = _setting((), rules.visible_items)
    jwt_issuer: str = _setting("", rules.text)
    jwt_audience: str = _setting("", rules.text)
    jwt_leeway_seconds: float = _setting(5.0, rules.between(0, 300))
    jwt_max_lifetime_seconds: float = _setting(0.0, rules.between(0, 10**9))
    jwt_patient_id_claim: str = _setting("id", rules.text)
    jwt_role_claim: str = _setting("type", rules.text)
    jwt_patient_role: str = _setting("patient", rules.text)
    jwt_required_scope: str = _setting("", rules.text)
    jwks_cache_seconds: float = _setting(600.0, rules.between(0.01, 86400 * 30))
    jwks_stale_seconds: float = _setting(86400.0, rules.between(0.01, 86400 * 30))
    jwks_cooldown_seconds: float = _setting(30.0, rules.between(0.01, 86400 * 30))

    host: str = _setting("0.0.0.0", rules.visible)  # noqa: S104  the contract's default
    port: int = _setting(8080, rules.between(0, 65535))
    session_budget_seconds: float = _setting(3.0, rules.between(0.01, 3600))
    max_body_bytes: int = _setting(16384, rules.between(1, 2**24))
    shutdown_grace_seconds: float = _setting(10.0, rules.between(0, 3600))

    rate_limit: str = _setting("30/minute", rules.rate)
    redis_url: str = _setting("", rules.redis_url, secret=True)
    redis_failure: str = _setting("refuse", rules.one_of("refuse", "serve"))

    cors_allowed_origins: tuple[str, ...] = _setting((), rules.origins)
    metrics_enabled: bool = _setting(False)
    docs_enabled: bool = _setting(False)
    audit_hash_key: bytes = _setting(b"", secret=True)
    log_level: str = _setting("INFO", rules.one_of(*_LEVELS))
    log_format: str = _setting("json", rules.one_of("json", "console"))


def load_settings(
    environ: Mapping[str, str] | None = None, dotenv: Path = Path(".env")
) -> Settings:
    """Read the settings from the environment, then from a `.env` file of the working directory.

    Raises `SettingsError` with every fault there is, not only the first.
    """
    try:
        env = Variables(os.environ if environ is None else environ, dotenv)
    except OSError as error:
        raise SettingsError([f"{dotenv}: cannot be read ({error.strerror})"]) from None
    values = {item.name: _read(env, item) for item in fields(Settings)}
    own = env.faults()
    settings, more = consistency.settle(Settings(**values), frozenset(own))
    # A variable that is at fault itself was read as nothing: what follows from that is none.
    faults = [*own.items(), *((name, fault) for name, fault in more if name not in own)]
    if faults:
        raise SettingsError([f"{name}: {fault}" for name, fault in sorted(faults)])
    return settings


def _read(env: Variables, item: Field[Any]) -> Any:
    """Read a field's variable; one that is missing or at fault reads as nothing, and is noted."""
    default = ... if item.default is MISSING else item.default
    held = item.metadata["rules"]
    value = env.setting(item.name.upper(), default, unset=default, kind=item.type, rules=held)
    return ("" if default is ... else default) if value is None else value
