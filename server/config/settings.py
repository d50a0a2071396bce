"""The settings: one typed field for each variable of `config.example.env`. Data only."""

from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, NewType

from server.config import validators

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class DpopMode(StrEnum):
    """Which access tokens need a proof: none, those that are bound to a key, or all."""

    OFF = "off"
    ACCEPT = "accept"
    REQUIRE = "require"


class CallMonitorMode(StrEnum):
    """Whether Vapi's calls are watched, and whether those that break a rule are ended."""

    OFF = "off"
    REPORT = "report"
    ENFORCE = "enforce"


class CredentialType(StrEnum):
    """The kind of credential that the app receives."""

    PUBLIC_KEY = "public_key"
    SESSION_TOKEN = "session_token"


ROLE_OFF: Final = "off"
"""The value of `JWT_ROLE_CLAIM` with which every user of the issuer is a patient."""

Pem = NewType("Pem", str)
"""One or several PEM blocks (RFC 7468)."""

Bundle = NewType("Bundle", str)
"""The PEM certificates in the file that a variable names."""


_SUFFIX: Final = "_FILE"


def file_variable(name: str) -> str:
    """Return the name of the variable that gives the path of a secret's file."""
    return name + _SUFFIX


def _setting(
    default: Any, *rules: validators.Rule, secret: bool = False, shown: bool = True
) -> Any:
    """Declare a variable: its default (`MISSING`: required) and the rules for its value.

    A secret can also be given as `NAME_FILE`. `repr` omits secrets and what is not `shown`.
    """
    metadata = {"rules": rules, "secret": secret}
    return field(default=default, repr=shown and not secret, metadata=metadata)


def _secret(default: Any, *rules: validators.Rule) -> Any:
    """Declare a secret that is not a PEM: white space at either end is a fault."""
    return _setting(default, validators.trimmed, *rules, secret=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field for each variable, in lower case; times are in seconds, `_bytes` in bytes.

    At least one of `jwt_secret`, `jwt_public_key` (PEM) and `jwt_jwks_url` is set, and at most one
    of the latter two. At least one of `vapi_assistant_id` and `vapi_assistants` is set. `repr`
    omits secrets.
    """

    vapi_api_key: str = _secret(MISSING, validators.visible)
    vapi_public_api_key: str = _setting("", validators.visible)
    vapi_assistant_id: str = _setting("", validators.visible)
    vapi_assistants: tuple[str, ...] = _setting((), validators.assistants)
    vapi_assistant_claim: str = _setting("", validators.text)
    vapi_credential: str = _setting(CredentialType.PUBLIC_KEY, validators.one_of(*CredentialType))
    vapi_org_id: str = _setting("", validators.visible)
    vapi_token_ttl_seconds: int = _setting(120, validators.between(10, 3600))
    vapi_allowed_origins: tuple[str, ...] = _setting((), validators.each(validators.visible))
    vapi_base_url: str = _setting("https://api.vapi.ai", validators.secure_url)
    vapi_check_seconds: float = _setting(30.0, validators.between(0, 3600))
    vapi_timeout_seconds: float = _setting(2.0, validators.between(0.01, 3600))

    jwt_secret: bytes = _secret(b"")
    jwt_secret_previous: bytes = _secret(b"")
    jwt_public_key: Pem = _setting("", secret=True)  # noqa: RUF009  a Pem is immutable
    jwt_jwks_url: str = _setting("", validators.secure_url_with_query)
    jwt_algorithms: tuple[str, ...] = _setting((), validators.each(validators.visible))
    jwt_issuer: tuple[str, ...] = _setting((), validators.issuers)
    jwt_audience: tuple[str, ...] = _setting((), validators.each(validators.text))
    jwt_dpop: str = _setting(DpopMode.OFF, validators.one_of(*DpopMode))
    public_url: tuple[str, ...] = _setting((), validators.each(validators.secure_url))
    jwt_leeway_seconds: float = _setting(5.0, validators.between(0, 300))
    jwt_max_lifetime_seconds: float = _setting(0.0, validators.between(0, 10**9))
    jwt_patient_id_claim: str = _setting("id", validators.text)
    jwt_role_claim: str = _setting("type", validators.text)
    jwt_patient_role: str = _setting("patient", validators.text)
    jwt_required_scope: str = _setting("", validators.text)
    jwt_consent_claim: str = _setting("", validators.text)
    jwt_required_claims: tuple[str, ...] = _setting((), validators.required_claims)
    jwt_required_type: str = _setting("", validators.media_type)
    jwks_cache_seconds: float = _setting(600.0, validators.between(0.01, 86400 * 30))
    jwks_stale_seconds: float = _setting(86400.0, validators.between(0.01, 86400 * 30))
    jwks_timeout_seconds: float = _setting(10.0, validators.between(0.01, 3600))
    jwks_cooldown_seconds: float = _setting(5.0, validators.between(0.01, 86400 * 30))

    https_proxy: str = _setting("", validators.proxy, shown=False)
    no_proxy: str = _setting("", validators.text)
    ssl_cert_file: Bundle = _setting("", shown=False)  # noqa: RUF009  a Bundle is immutable

    host: str = _setting("0.0.0.0", validators.visible)  # noqa: S104  the contract's default
    port: int = _setting(8080, validators.between(0, 65535))
    trusted_proxies: tuple[str, ...] = _setting((), validators.each(validators.network))
    session_budget_seconds: float = _setting(3.0, validators.between(0.01, 3600))
    max_body_bytes: int = _setting(16384, validators.between(1, 2**24))
    max_connections: int = _setting(10000, validators.between(1, 10**6))
    shutdown_grace_seconds: float = _setting(10.0, validators.between(0, 3600))
    shutdown_delay_seconds: float = _setting(0.0, validators.between(0, 3600))
    keepalive_seconds: float = _setting(3630.0, validators.between(0.1, 86400))

    rate_limit: str = _setting("30/minute", validators.rate)
    consent_required: tuple[str, ...] = _setting((), validators.consents)
    sessions_paused: bool = _setting(False)
    redis_url: str = _secret("", validators.redis_url)
    redis_failure: str = _setting("refuse", validators.one_of("refuse", "serve"))

    proof_key: Pem = _setting("", secret=True)  # noqa: RUF009  a Pem is immutable
    proof_issuer: str = _setting("", validators.text)
    proof_audience: str = _setting("", validators.text)

    call_monitor: str = _setting(CallMonitorMode.OFF, validators.one_of(*CallMonitorMode))
    call_monitor_seconds: float = _setting(10.0, validators.between(1, 3600))
    call_limits: tuple[str, ...] = _setting((), validators.call_limits)
    call_overrides: tuple[str, ...] = _setting(
        ("variableValues.patientProof",), validators.each(validators.text)
    )

    cors_allowed_origins: tuple[str, ...] = _setting((), validators.each(validators.origin))
    metrics_enabled: bool = _setting(False)
    docs_enabled: bool = _setting(False)
    audit_hash_key: bytes = _secret(b"", validators.hash_key)
    audit_hash_key_previous: bytes = _secret(b"", validators.hash_key)
    log_level: str = _setting("INFO", validators.one_of(*_LEVELS))
    log_format: str = _setting("json", validators.one_of("json", "console"))


SECRETS: Final = frozenset(
    item.name.upper() for item in fields(Settings) if item.metadata["secret"]
)
"""The variables that can also be given as `NAME_FILE`."""

VARIABLES: Final = frozenset(item.name.upper() for item in fields(Settings)) | {
    file_variable(name) for name in SECRETS
}
"""All variables that the service knows."""

IN_EITHER_CASE: Final = {"https_proxy": "HTTPS_PROXY", "no_proxy": "NO_PROXY"}
"""The variables that are also read by a name in lower case, by that name."""
