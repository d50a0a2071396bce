"""The rules for a patient token, one by one, checked by the functions that the service uses."""

from collections.abc import Awaitable, Callable
from typing import Final

from middlewares.api_errors import ApiError, ErrorCode
from middlewares.authentication import bearer_token
from middlewares.authorization import check_patient_id, check_role, check_scope
from server.auth.claims import read_token_id
from server.auth.jws import read_header
from server.auth.jwt_decode import check_audience, check_issuer
from server.cli.checked_token import CheckedToken, NotCheckedError

Check = Callable[[CheckedToken], Awaitable[str]]
"""Returns why a rule is met. Raises `ApiError` when it is broken, or `NotCheckedError`."""


async def check_format(checked: CheckedToken) -> str:
    """Check the form and the header of the token."""
    read_header(bearer_token([f"Bearer {checked.token}"]).partition(".")[0])
    return "a compact JWS with an accepted header"


async def check_key(checked: CheckedToken) -> str:
    """Check that there is a key for the algorithm and the key id of the header."""
    await checked.decoder()
    return "there is a key for its alg and kid"


async def check_signature(checked: CheckedToken) -> str:
    """Check the signature."""
    try:
        decode = await checked.decoder()
    except ApiError:
        raise NotCheckedError("there is no key") from None
    await decode(checked.compact())
    return "verifies"


async def check_iss(checked: CheckedToken) -> str:
    """Check the issuer."""
    claims, issuer = checked.claims(), checked.settings.jwt_issuer
    if not issuer:
        raise NotCheckedError("JWT_ISSUER is not set")
    check_issuer(claims, issuer)
    return "iss is JWT_ISSUER"


async def check_aud(checked: CheckedToken) -> str:
    """Check the audience."""
    claims, audiences = checked.claims(), frozenset(checked.settings.jwt_audience)
    if not audiences:
        raise NotCheckedError("JWT_AUDIENCE is not set")
    check_audience(claims, audiences)
    return "aud has one of JWT_AUDIENCE"


async def check_dates(checked: CheckedToken) -> str:
    """Check `exp`, `nbf`, `iat` and the lifetime."""
    claims = checked.claims()
    dates = checked.rules.read_dates(claims)
    checked.rules.check_dates(checked.rules.describe(claims, None, *dates), checked.now)
    return "exp, nbf and iat are valid now"


async def check_patient(checked: CheckedToken) -> str:
    """Check that there is a usable patient id."""
    name = checked.settings.jwt_patient_id_claim
    check_patient_id(checked.principal(), name)
    return f"{name} has a usable patient id"


async def check_patient_role(checked: CheckedToken) -> str:
    """Check that the role is that of a patient."""
    check_role(checked.principal(), checked.settings.jwt_patient_role)
    return f"{checked.settings.jwt_role_claim} has JWT_PATIENT_ROLE"


async def check_required_scope(checked: CheckedToken) -> str:
    """Check that the required scope is granted."""
    principal, required = checked.principal(), checked.settings.jwt_required_scope
    if not required:
        raise NotCheckedError("JWT_REQUIRED_SCOPE is not set")
    check_scope(principal, frozenset(required.split()))
    return "JWT_REQUIRED_SCOPE is granted"


async def check_not_revoked(checked: CheckedToken) -> str:
    """Check that neither the token nor the patient is revoked."""
    token_id = read_token_id(checked.claims())
    if checked.is_revoked is None:
        raise NotCheckedError("REDIS_URL is not set, so nothing can be revoked")
    revoked = await checked.is_revoked(checked.principal(token_id))
    if revoked is None:
        raise NotCheckedError("Redis is not available, and REDIS_FAILURE is serve")
    if revoked:
        raise ApiError(ErrorCode.AUTH_TOKEN_REVOKED, "The token or the patient was revoked")
    return "neither its jti nor the patient is revoked"


RULES: Final[tuple[tuple[str, Check, str], ...]] = (
    ("format", check_format, "give the whole token: three segments with dots between them"),
    ("key found", check_key, "compare its alg with JWT_ALGORITHMS, its kid with {source}"),
    ("signature", check_signature, "it was changed, or signed with a key that is not in {source}"),
    ("issuer", check_iss, "compare its iss with JWT_ISSUER, also the slash at the end"),
    ("audience", check_aud, "compare its aud with JWT_AUDIENCE"),
    ("dates", check_dates, "compare exp, nbf and iat with JWT_MAX_LIFETIME_SECONDS and the clock"),
    ("patient id", check_patient, "set JWT_PATIENT_ID_CLAIM to one of its claims: {names}"),
    ("role", check_patient_role, "{role} must have JWT_PATIENT_ROLE; its claims: {names}"),
    ("scope", check_required_scope, "scope, scp, scopes and permissions count; it has: {names}"),
    ("revocation", check_not_revoked, "see `python -m server revoke`, and check REDIS_URL"),
)
"""The name of each rule, its check, and what to do when it is broken."""
