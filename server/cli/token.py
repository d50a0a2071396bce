"""Makes tokens that a configuration grants, for trying things out."""

from secrets import token_hex

import jwt

from server.auth.patient_id import PATIENT_ID_FORMAT, parse_patient_id
from server.config import Settings


def issue_test_token(settings: Settings, patient_id: str, *, seconds: int, now: float) -> str:
    """Sign a token for a patient with `JWT_SECRET`, good for so many seconds from `now`.

    Raises ValueError, in words for a developer, when the configuration would not grant it.
    """
    if not settings.jwt_secret:
        raise ValueError("A token can only be made with JWT_SECRET; ask your identity provider")
    if parse_patient_id(patient_id) is None:
        raise ValueError(f"A patient id is {PATIENT_ID_FORMAT}")
    if 0 < settings.jwt_max_lifetime_seconds < seconds:
        raise ValueError("JWT_MAX_LIFETIME_SECONDS allows no token that lives so long")
    wanted: list[tuple[str, object]] = [
        (settings.jwt_role_claim, settings.jwt_patient_role),
        (settings.jwt_patient_id_claim, patient_id),
        ("iat", int(now)),
        ("exp", int(now) + seconds),
        ("iss", settings.jwt_issuer),
        ("aud", settings.jwt_audience[0] if settings.jwt_audience else ""),
        ("scope", settings.jwt_required_scope),
    ]
    wanted = [(name, value) for name, value in wanted if value]
    claims = {"jti": token_hex(8), **dict(wanted)}
    if any(claims[name] != value for name, value in wanted):
        raise ValueError("No token can hold this: two settings want the same claim for themselves")
    return jwt.encode(claims, settings.jwt_secret, algorithm=settings.jwt_algorithms[0])
