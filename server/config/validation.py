"""The rules that relate several variables, and the defaults that depend on others."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import jwt.exceptions

from server.config.extras import find_swagger_ui
from server.config.public_keys import (
    HMAC_ALGORITHMS,
    PUBLIC_ALGORITHMS,
    algorithms_of,
    load_public_key,
)
from server.config.settings import Settings

MIN_SECRET_BYTES: Final = 32

_KEY_SOURCES: Final = ("JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_PUBLIC_KEY_FILE", "JWT_JWKS_URL")

Fault = tuple[str, str]


def validate(settings: Settings, faulty: frozenset[str]) -> tuple[Settings, list[Fault]]:
    """Set the defaults that depend on other settings; return the settings and all faults.

    `faulty` names the variables with a fault of their own, which read as unset.
    """
    faults: list[Fault] = []
    if not settings.jwt_algorithms:
        default = ("HS256",) if settings.jwt_secret else ("RS256", "ES256")
        settings = replace(settings, jwt_algorithms=default)
    faults += _check_key_sources(settings, faulty)
    if settings.jwt_public_key_file and not settings.jwt_public_key:
        try:
            pem = Path(settings.jwt_public_key_file).read_text("ascii")
            settings = replace(settings, jwt_public_key=pem)
        except (OSError, ValueError):
            faults.append(("JWT_PUBLIC_KEY_FILE", "cannot be read as a PEM file"))
    if settings.docs_enabled and find_swagger_ui() is None:
        faults.append(("DOCS_ENABLED", "needs the extra `docs` of this package to be installed"))
    faults += _check_vapi(settings)
    faults += _check_key_material(settings)
    return settings, faults


def _check_key_sources(settings: Settings, faulty: frozenset[str]) -> Iterator[Fault]:
    given = [name for name in _KEY_SOURCES if name in faulty or getattr(settings, name.lower())]
    if not given:
        yield "JWT_SECRET", f"set exactly one of {', '.join(_KEY_SOURCES)}"
    for name in given[1:]:
        yield name, f"conflicts with {given[0]}: set exactly one of the two"
    if "JWT_JWKS_URL" in given and not settings.jwt_issuer:
        yield "JWT_ISSUER", "is required with JWT_JWKS_URL"


def _check_vapi(settings: Settings) -> Iterator[Fault]:
    needed = {
        "public_key": ("VAPI_PUBLIC_API_KEY", settings.vapi_public_api_key),
        "session_token": ("VAPI_ORG_ID", settings.vapi_org_id),
    }
    name, value = needed.get(settings.vapi_credential, ("", "none"))
    if not value:
        yield name, f"is required with VAPI_CREDENTIAL={settings.vapi_credential}"
    for name in ("VAPI_PUBLIC_API_KEY", "VAPI_ASSISTANT_ID", "VAPI_ORG_ID"):
        if settings.vapi_api_key and getattr(settings, name.lower()) == settings.vapi_api_key:
            yield name, "must differ from VAPI_API_KEY, which never leaves the service"
    if settings.vapi_timeout_seconds >= settings.session_budget_seconds:
        yield "VAPI_TIMEOUT_SECONDS", "must be less than SESSION_BUDGET_SECONDS"
    if not _can_sign(settings.vapi_api_key.encode()):
        yield "VAPI_API_KEY", "looks like a public or private key, not like an API key"


def _check_key_material(settings: Settings) -> Iterator[Fault]:
    chosen = frozenset(settings.jwt_algorithms)
    allowed = HMAC_ALGORITHMS if settings.jwt_secret else PUBLIC_ALGORITHMS
    kind = "JWT_SECRET" if settings.jwt_secret else "a public key or JWT_JWKS_URL"
    if not chosen <= allowed:
        yield "JWT_ALGORITHMS", f"must be out of {', '.join(sorted(allowed))} with {kind}"
    if settings.jwt_secret:
        yield from _check_secret(settings.jwt_secret)
    elif settings.jwt_public_key or settings.jwt_public_key_file:
        yield from _check_public_key(settings, chosen)


def _check_secret(secret: bytes) -> Iterator[Fault]:
    if len(secret) < MIN_SECRET_BYTES:
        yield "JWT_SECRET", f"must be at least {MIN_SECRET_BYTES} bytes long"
    elif not _can_sign(secret):
        yield "JWT_SECRET", "looks like a public or private key; use JWT_PUBLIC_KEY for those"


def _check_public_key(settings: Settings, chosen: frozenset[str]) -> Iterator[Fault]:
    name = "JWT_PUBLIC_KEY_FILE" if settings.jwt_public_key_file else "JWT_PUBLIC_KEY"
    try:
        usable = algorithms_of(load_public_key(settings.jwt_public_key))
    except ValueError as error:
        yield name, str(error)
    else:
        if not chosen & usable:
            yield "JWT_ALGORITHMS", f"contains none that the key in {name} can verify"


def _can_sign(secret: bytes) -> bool:
    """Return whether PyJWT accepts these bytes as an HMAC key: it rejects PEM and SSH keys."""
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(secret or b"unset")
    except jwt.exceptions.InvalidKeyError:
        return False
    return True
