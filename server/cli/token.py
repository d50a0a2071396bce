"""`python -m server token`: prints a patient token that the configuration accepts."""

from argparse import Namespace
from collections.abc import Container, Iterable
from secrets import token_hex
from time import time
from typing import Final

import jwt

from server.auth.claims import PATIENT_ID_FORMAT, parse_patient_id
from server.cli import CommandFailed
from server.config import Settings
from server.config.keys import HMAC_ALGORITHMS
from server.config.loader import Configuration
from server.config.settings import ROLE_OFF, DpopMode
from server.config.validators import split_assistant

_DEFAULT_SECONDS: Final = 3600


async def run(configuration: Configuration, arguments: Namespace) -> int:
    """Print a token."""
    settings = configuration.settings
    seconds = arguments.seconds or int(settings.jwt_max_lifetime_seconds) or _DEFAULT_SECONDS
    try:
        print(issue_test_token(settings, arguments.patient, seconds=seconds, now=time()))
    except ValueError as error:
        raise CommandFailed(str(error)) from None
    return 0


def issue_test_token(settings: Settings, patient_id: str, *, seconds: int, now: float) -> str:
    """Sign a token for a patient with `JWT_SECRET`, valid for `seconds` from `now`.

    Raises ValueError, with a message for a developer, when the configuration would not accept it.
    """
    if not settings.jwt_secret:
        raise ValueError("Tokens are signed with JWT_SECRET only; use your identity provider's")
    if settings.jwt_dpop == DpopMode.REQUIRE:
        raise ValueError("With JWT_DPOP=require a token is bound to a key, which only the app has")
    if parse_patient_id(patient_id) is None:
        raise ValueError(f"A patient id is {PATIENT_ID_FORMAT}")
    if 0 < settings.jwt_max_lifetime_seconds < seconds:
        raise ValueError("JWT_MAX_LIFETIME_SECONDS does not allow a lifetime this long")
    wanted: list[tuple[str, object]] = [
        *_role(settings),
        *_required_claims(settings),
        *_assistants_and_consents(settings),
        (settings.jwt_patient_id_claim, patient_id),
        ("iat", int(now)),
        ("exp", int(now) + seconds),
        ("iss", settings.jwt_issuer[0] if settings.jwt_issuer else ""),
        ("aud", settings.jwt_audience[0] if settings.jwt_audience else ""),
        ("scope", settings.jwt_required_scope),
    ]
    single = {settings.jwt_patient_id_claim, "iat", "exp", "iss"}
    claims = {"jti": token_hex(8), **_combine(wanted, single)}
    headers = {"typ": settings.jwt_required_type} if settings.jwt_required_type else None
    algorithm = next(each for each in settings.jwt_algorithms if each in HMAC_ALGORITHMS)
    return jwt.encode(claims, settings.jwt_secret, algorithm=algorithm, headers=headers)


def _combine(wanted: Iterable[tuple[str, object]], single: Container[str]) -> dict[str, object]:
    """Return the claims; several values of one become a list, unless it must be a `single` one."""
    claims: dict[str, object] = {}
    for name, value in wanted:
        if not value:
            continue
        known = claims.setdefault(name, value)
        if known != value and name in single:
            raise ValueError("Two settings require different values in the same claim")
        if known != value:
            claims[name] = [*_items(known), *_items(value)]
    return claims


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _role(settings: Settings) -> list[tuple[str, object]]:
    if settings.jwt_role_claim == ROLE_OFF:
        return []
    return [(settings.jwt_role_claim, settings.jwt_patient_role)]


def _required_claims(settings: Settings) -> list[tuple[str, object]]:
    entries = (entry.partition("=") for entry in settings.jwt_required_claims)
    return [(name.rstrip(), values.split("|")[0].strip()) for name, _, values in entries]


def _assistants_and_consents(settings: Settings) -> list[tuple[str, object]]:
    """Return the claims that grant every assistant and state every required consent."""
    names = [split_assistant(item)[0] for item in settings.vapi_assistants]
    values = [
        (settings.vapi_assistant_claim, names),
        (settings.jwt_consent_claim, list(settings.consent_required)),
    ]
    return [(claim, value) for claim, value in values if claim]
