"""Checks of the whole configuration: faults between settings, and advice about valid ones."""

import os
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import jwt.exceptions

from server.config.keys import (
    HMAC_ALGORITHMS,
    PUBLIC_ALGORITHMS,
    algorithms_of,
    check_proof,
    load_public_keys,
)
from server.config.redis_url import parse_redis_url
from server.config.settings import (
    ROLE_OFF,
    CallMonitorMode,
    CredentialType,
    DpopMode,
    Settings,
)
from server.config.validators import is_loopback, split_assistant


def find_swagger_ui() -> Path | None:
    """Return the folder of Swagger UI's files, or None when the extra `docs` is not installed.

    The package `flask_swagger_ui` contains the files; no code of it runs.
    """
    spec = find_spec("flask_swagger_ui")
    return Path(spec.origin).parent / "dist" if spec and spec.origin else None


_MIN_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""RFC 7518 section 3.2: a secret is at least as long as the hash."""
MIN_SIGNING_KEY_CHARACTERS: Final = 32
"""RFC 7518 section 3.2: a key for HS256 has at least 256 bits."""

_FAMILIES: Final = {
    "JWT_SECRET": HMAC_ALGORITHMS,
    "JWT_PUBLIC_KEY": PUBLIC_ALGORITHMS,
    "JWT_JWKS_URL": PUBLIC_ALGORITHMS,
}
"""The sources of keys, and the algorithms of each."""

_MAKE_SECRET: Final = "try openssl rand -base64 48"

Fault = tuple[str, str]


def validate(settings: Settings, faulty: frozenset[str]) -> tuple[Settings, list[Fault]]:
    """Set the defaults that depend on other settings; return the settings and all faults.

    `faulty` names the variables with a fault of their own, which read as unset.
    """
    faults: list[Fault] = []
    sources = [name for name in _FAMILIES if name in faulty or getattr(settings, name.lower())]
    if not settings.jwt_algorithms:
        settings = replace(settings, jwt_algorithms=_default_algorithms(sources))
    faults += _check_key_sources(settings, sources)
    if settings.docs_enabled and find_swagger_ui() is None:
        faults.append(("DOCS_ENABLED", "needs the extra `docs`, which `make install` installs"))
    faults += _check_vapi(settings)
    faults += _check_assistants(settings, faulty)
    faults += _check_key_material(settings, sources)
    faults += _check_previous_secret(settings, faulty)
    faults += check_proof(settings)
    faults += _check_call_monitor(settings, faulty)
    faults += _check_distinct(settings)
    if settings.jwt_dpop != DpopMode.OFF and not (settings.public_url or "PUBLIC_URL" in faulty):
        faults.append(("PUBLIC_URL", f"is required with JWT_DPOP={settings.jwt_dpop}"))
    return settings, faults


def _check_call_monitor(settings: Settings, faulty: frozenset[str]) -> Iterator[Fault]:
    if settings.call_monitor == CallMonitorMode.OFF:
        if settings.call_limits and "CALL_MONITOR" not in faulty:
            yield "CALL_LIMITS", "is used only with CALL_MONITOR; set that too"
    elif not settings.proof_key and "PROOF_KEY" not in faulty:
        yield "CALL_MONITOR", "needs PROOF_KEY, by which calls are known"


def check_processes(settings: Settings, processes: int) -> Iterator[Fault]:
    """Yield the faults of settings that several processes cannot have without Redis."""
    if settings.redis_url or processes < 2:
        return
    needing = {
        "JWT_DPOP": settings.jwt_dpop != DpopMode.OFF,
        "CALL_MONITOR": settings.call_monitor != CallMonitorMode.OFF,
    }
    for name, is_on in needing.items():
        if is_on:
            yield name, "needs REDIS_URL with several processes, which share its state"


def _default_algorithms(sources: list[str]) -> tuple[str, ...]:
    secret = ("HS256",) if "JWT_SECRET" in sources else ()
    return secret if sources == ["JWT_SECRET"] else (*secret, "RS256", "ES256")


def _check_distinct(settings: Settings) -> Iterator[Fault]:
    """Compare every secret with the other secrets and with the public values.

    A `JWT_SECRET` that apps know, as `VAPI_PUBLIC_API_KEY`, would let anybody sign tokens.
    """
    seen: dict[bytes, str] = {}
    for name, secret in _secrets(settings):
        if secret in seen:
            yield name, f"must differ from {seen[secret]}: each secret has one purpose"
        seen.setdefault(secret, name)
    for name, value in _public_values(settings):
        if os.fsencode(value) in seen:
            yield (
                name,
                f"must differ from {seen[os.fsencode(value)]}, which never leaves the service",
            )


def _secrets(settings: Settings) -> Iterator[tuple[str, bytes]]:
    """Yield the secrets that are set, in the order of the fields."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.metadata["secret"] and value:
            yield item.name.upper(), os.fsencode(value).strip()


def _public_values(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the values that apps and Vapi's customers may know."""
    yield "VAPI_PUBLIC_API_KEY", settings.vapi_public_api_key
    yield "VAPI_ASSISTANT_ID", settings.vapi_assistant_id
    yield "VAPI_ORG_ID", settings.vapi_org_id
    for item in settings.vapi_assistants:
        yield "VAPI_ASSISTANTS", split_assistant(item)[1]


def _check_key_sources(settings: Settings, sources: list[str]) -> Iterator[Fault]:
    if not sources:
        yield "JWT_SECRET", "set JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS_URL"
    if {"JWT_PUBLIC_KEY", "JWT_JWKS_URL"}.issubset(sources):
        yield "JWT_JWKS_URL", "conflicts with JWT_PUBLIC_KEY; set only one of the two"
    if "JWT_JWKS_URL" in sources and not settings.jwt_issuer:
        yield "JWT_ISSUER", "is required with JWT_JWKS_URL"


def _check_vapi(settings: Settings) -> Iterator[Fault]:
    needed = {
        "public_key": ("VAPI_PUBLIC_API_KEY", settings.vapi_public_api_key),
        "session_token": ("VAPI_ORG_ID", settings.vapi_org_id),
    }
    name, value = needed.get(settings.vapi_credential, ("", "none"))
    if not value:
        yield name, f"is required with VAPI_CREDENTIAL={settings.vapi_credential}"
    if settings.vapi_timeout_seconds >= settings.session_budget_seconds:
        yield "VAPI_TIMEOUT_SECONDS", "must be less than SESSION_BUDGET_SECONDS"
    yield from _check_vapi_key(settings)


def _check_assistants(settings: Settings, faulty: frozenset[str]) -> Iterator[Fault]:
    ids = [split_assistant(item)[1] for item in settings.vapi_assistants]
    has_list = bool(ids) or "VAPI_ASSISTANTS" in faulty
    if not settings.vapi_assistant_id and not has_list:
        yield "VAPI_ASSISTANT_ID", "is required"
    if settings.vapi_assistant_claim and not has_list:
        yield "VAPI_ASSISTANT_CLAIM", "is used only with VAPI_ASSISTANTS; set that too"
    if settings.vapi_api_key in ids:
        yield "VAPI_ASSISTANTS", "must differ from VAPI_API_KEY, which never leaves the service"


def _check_vapi_key(settings: Settings) -> Iterator[Fault]:
    if not _can_sign(settings.vapi_api_key.encode()):
        yield "VAPI_API_KEY", "looks like a PEM or SSH key; copy the private key from Vapi"
    signs = settings.vapi_credential == CredentialType.SESSION_TOKEN
    if signs and 0 < len(settings.vapi_api_key) < MIN_SIGNING_KEY_CHARACTERS:
        text = f"must have at least {MIN_SIGNING_KEY_CHARACTERS} characters"
        yield "VAPI_API_KEY", f"{text} with VAPI_CREDENTIAL=session_token; copy it whole from Vapi"


def _check_key_material(settings: Settings, sources: list[str]) -> Iterator[Fault]:
    chosen = frozenset(settings.jwt_algorithms)
    allowed = frozenset[str]().union(*(_FAMILIES[name] for name in sources))
    idle = [name for name in sources if chosen.isdisjoint(_FAMILIES[name])]
    if sources and not chosen <= allowed:
        given = " and ".join(sources)
        yield "JWT_ALGORITHMS", f"must be some of {', '.join(sorted(allowed))} with {given}"
    elif idle:
        wanted = " or ".join(sorted(_FAMILIES[idle[0]]))
        yield "JWT_ALGORITHMS", f"has none for {idle[0]}, which needs {wanted}"
    elif settings.jwt_public_key:
        yield from _check_public_keys(settings, chosen)
    if settings.jwt_secret:
        yield from _check_secret("JWT_SECRET", settings.jwt_secret, chosen)


def _check_previous_secret(settings: Settings, faulty: frozenset[str]) -> Iterator[Fault]:
    if settings.jwt_secret_previous and not (settings.jwt_secret or "JWT_SECRET" in faulty):
        yield "JWT_SECRET_PREVIOUS", "is used only with JWT_SECRET; set that too or remove this"
    elif settings.jwt_secret_previous:
        chosen = frozenset(settings.jwt_algorithms)
        yield from _check_secret("JWT_SECRET_PREVIOUS", settings.jwt_secret_previous, chosen)


def _check_secret(name: str, secret: bytes, chosen: frozenset[str]) -> Iterator[Fault]:
    used = max(chosen & HMAC_ALGORITHMS, default="HS256")
    if len(secret) < _MIN_SECRET_BYTES[used]:
        yield name, f"must be at least {_MIN_SECRET_BYTES[used]} bytes for {used}; {_MAKE_SECRET}"
    elif not _can_sign(secret):
        yield name, "looks like a PEM or SSH key; use JWT_PUBLIC_KEY for a public key"


def _check_public_keys(settings: Settings, chosen: frozenset[str]) -> Iterator[Fault]:
    try:
        keys = load_public_keys(settings.jwt_public_key)
    except ValueError as error:
        yield "JWT_PUBLIC_KEY", str(error)
        return
    for number, key in enumerate(keys, 1):
        usable = algorithms_of(key)
        if not chosen & usable:
            algorithms = " or ".join(sorted(usable))
            text = f"has none for key {number} of JWT_PUBLIC_KEY, which needs {algorithms}"
            yield "JWT_ALGORITHMS", text
            return


def _can_sign(secret: bytes) -> bool:
    """Return whether PyJWT accepts these bytes as an HMAC key: it rejects PEM and SSH keys."""
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(secret or b"unset")
    except jwt.exceptions.InvalidKeyError:
        return False
    return True


_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_QUOTED: Final = re.compile(r"(['\"]).*\1", re.DOTALL)
_DISCOVERY: Final = "/.well-known/openid-configuration"


def warn(settings: Settings) -> Iterator[str]:
    """Yield a warning for each valid setting that the start tells of too."""
    if not settings.redis_url:
        return
    address = parse_redis_url(settings.redis_url)
    if not (address.path or address.tls or is_loopback(address.host)):
        yield (
            "REDIS_URL: crosses a network without encryption; use rediss://, or a Redis on this "
            "machine"
        )


def advise(settings: Settings) -> Iterator[str]:
    """Yield a warning for each valid setting that is probably a mistake."""
    if settings.jwt_role_claim == ROLE_OFF:
        yield "JWT_ROLE_CLAIM: is off, so every user of the issuer is a patient"
    limits_client = any(each.startswith("client_id=") for each in settings.jwt_required_claims)
    if settings.jwt_jwks_url and not settings.jwt_audience and not limits_client:
        yield (
            "JWT_AUDIENCE: is empty, so tokens that the identity provider issued for other "
            "applications are accepted; set the audience of this service"
        )
    if settings.jwt_jwks_url.endswith(_DISCOVERY):
        yield "JWT_JWKS_URL: looks like a discovery document; set the jwks_uri that it contains"
    default = settings.vapi_assistant_id
    if default and not _UUID.fullmatch(default):
        yield "VAPI_ASSISTANT_ID: is not a UUID; copy the id of the assistant from the dashboard"
    ids = [split_assistant(item)[1] for item in settings.vapi_assistants]
    wrong = [str(place) for place, each in enumerate(ids, 1) if not _UUID.fullmatch(each)]
    if wrong:
        yield (
            f"VAPI_ASSISTANTS: the id of entry {', '.join(wrong)} is not a UUID; copy the ids of "
            "the assistants from the dashboard"
        )
    yield from _find_surrounded(settings)


def _find_surrounded(settings: Settings) -> Iterator[str]:
    """Find what a shell would have removed; white space around a secret is a fault already."""
    for item in fields(settings):
        value, name = getattr(settings, item.name), item.name.upper()
        for each in value if isinstance(value, tuple) else (value,):
            text = os.fsdecode(each) if isinstance(each, str | bytes) else ""
            if _QUOTED.fullmatch(text):
                yield f"{name}: has quotation marks around it, which are part of the value"
            elif text != text.strip() and "-----BEGIN " not in text:
                yield f"{name}: has white space around it, which is part of the value"
