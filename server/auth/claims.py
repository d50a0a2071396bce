"""Verified claims: the rules for their dates, and the principal that they describe."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf, isfinite
from typing import Final

from middlewares.context import Principal
from middlewares.errors import ApiError, ErrorCode, Reason
from server.config import Settings
from server.config.settings import ROLE_OFF

PATIENT_ID_PATTERN: Final = "[A-Za-z0-9._:@|+/=-]{1,128}"
PATIENT_ID_FORMAT: Final = "1 to 128 characters out of A-Z a-z 0-9 ._:@|+/=-"

_PATIENT_ID: Final = re.compile(PATIENT_ID_PATTERN)
MAX_EXACT_INTEGER: Final = 2**53
"""Up to this value, a JSON number with a fraction represents a whole number exactly."""


def parse_patient_id(value: object) -> str | None:
    """Return a patient id as text, or None if the value is not a usable patient id.

    A whole number counts as its decimal digits.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT_INTEGER:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _PATIENT_ID.fullmatch(value) else None


Claims = Mapping[str, object]

_NONE: Final[frozenset[str]] = frozenset()
_SCOPE_CLAIMS: Final = ("scope", "scp", "scopes", "permissions")


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """The claims that describe the principal, and the rules for dates (RFC 7519 section 4.1).

    The claim names are exact names or dotted paths into nested claims. `leeway` and `max_lifetime`
    are in seconds; a maximum of 0 means no maximum. Without `assistant_claim` or `consent_claim`
    the principal has no assistants or no consents. An empty
    `role_claim` means that roles are not read. `required` has the accepted values of each
    required claim.
    """

    patient_id_claim: str
    role_claim: str
    leeway: float = 0
    max_lifetime: float = 0
    assistant_claim: str = ""
    consent_claim: str = ""
    required: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def principal_from(self, claims: Claims) -> Principal:
        """Return the principal of verified claims; `check_dates` checks its dates.

        Raises `ApiError` AUTH_TOKEN_INVALID for a malformed date or `jti`, for a lifetime that is
        not allowed, and for a required claim without an accepted value.
        """
        self.check_required(claims)
        valid_from, expires_at = self.read_dates(claims)
        return self.describe(claims, read_token_id(claims), valid_from, expires_at)

    def describe(
        self, claims: Claims, token_id: str | None, valid_from: float, expires_at: float
    ) -> Principal:
        """Return the principal of these claims, with a token id and dates read before."""
        role, assistant, consent = self.role_claim, self.assistant_claim, self.consent_claim
        return Principal(
            patient_id=parse_patient_id(find_claim(claims, self.patient_id_claim)),
            roles=_shared(*_roles(find_claim(claims, role))) if role else _NONE,
            scopes=_scopes_of(*_scopes(claims)),
            token_id=token_id,
            valid_from=valid_from,
            expires_at=expires_at,
            assistants=_shared_names(*_strings(find_claim(claims, assistant))) if assistant else (),
            consents=_shared(*_consents(find_claim(claims, consent))) if consent else _NONE,
            key_thumbprint=read_key_thumbprint(claims),
        )

    def check_required(self, claims: Claims) -> None:
        """Check the required claims. Raises `ApiError` AUTH_TOKEN_INVALID that names the claim."""
        for name, accepted in self.required.items():
            if accepted.isdisjoint(_texts(find_claim(claims, name))):
                details = f"The token's claim {name} does not have a required value"
                raise invalid_token(details, Reason.CLAIMS)

    def read_dates(self, claims: Claims) -> tuple[float, float]:
        """Return when the token becomes valid (0: at once) and when it expires.

        Raises `ApiError` AUTH_TOKEN_INVALID for a malformed date or a lifetime that is not allowed.
        """
        expires_at = _date(claims, "exp")
        issued_at = _date(claims, "iat")
        if expires_at is None:
            raise invalid_token("The token has no exp claim", Reason.CLAIMS)
        if self.max_lifetime:
            self._check_lifetime(expires_at, issued_at)
        return max(_date(claims, "nbf") or 0, issued_at or 0), expires_at

    def _check_lifetime(self, expires_at: float, issued_at: float | None) -> None:
        if issued_at is None:
            raise invalid_token(
                "The token has no iat claim, so its lifetime is unknown", Reason.LIFETIME
            )
        if expires_at - issued_at > self.max_lifetime:
            raise invalid_token(
                "The token's lifetime (exp minus iat) is longer than allowed", Reason.LIFETIME
            )

    def check_dates(self, principal: Principal, now: float) -> None:
        """Check that the token is valid at `now`, in seconds since the epoch.

        Raises `ApiError`: AUTH_TOKEN_EXPIRED when `exp` has passed, AUTH_TOKEN_INVALID when `nbf`
        or `iat` is in the future.
        """
        if principal.expires_at + self.leeway <= now:
            raise ApiError(ErrorCode.AUTH_TOKEN_EXPIRED, "Refresh the token and try again")
        if principal.valid_from - self.leeway > now:
            raise invalid_token(
                "The token is not valid yet (nbf or iat is in the future)", Reason.NOT_YET
            )


def make_claim_rules(settings: Settings) -> ClaimRules:
    """Return the rules that the settings describe."""
    return ClaimRules(
        patient_id_claim=settings.jwt_patient_id_claim,
        role_claim="" if settings.jwt_role_claim == ROLE_OFF else settings.jwt_role_claim,
        leeway=settings.jwt_leeway_seconds,
        max_lifetime=settings.jwt_max_lifetime_seconds,
        assistant_claim=settings.vapi_assistant_claim,
        consent_claim=settings.jwt_consent_claim,
        required=dict(map(_required_claim, settings.jwt_required_claims)),
    )


def patient_role(settings: Settings) -> str | None:
    """Return the role that a patient must have, or None when every principal is a patient."""
    return None if settings.jwt_role_claim == ROLE_OFF else settings.jwt_patient_role


def _required_claim(entry: str) -> tuple[str, frozenset[str]]:
    name, _, values = entry.partition("=")
    return name.rstrip(), frozenset(value.strip() for value in values.split("|"))


def invalid_token(details: str, reason: Reason) -> ApiError:
    """Return the error for an invalid token; `details` must not repeat its content."""
    return ApiError(ErrorCode.AUTH_TOKEN_INVALID, details, reason=reason)


def find_claim(claims: Claims, path: str) -> object:
    """Return a claim by its name or by a dotted path into nested claims, or None without one.

    Names may contain dots: at each level the longest name that the object has is taken.
    """
    if path in claims:
        return claims[path]
    value: object = claims
    rest = path
    while rest:
        if not isinstance(value, dict):
            return None
        name = rest
        while name not in value:
            name, dot, _ = name.rpartition(".")
            if not dot:
                return None
        value = value[name]
        rest = rest[len(name) + 1 :]
    return value


def read_token_id(claims: Claims) -> str | None:
    """Return `jti` as text, or None without one. Raises `ApiError` AUTH_TOKEN_INVALID."""
    value = claims.get("jti")
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise invalid_token("The token's jti claim is not a string", Reason.CLAIMS)


def read_key_thumbprint(claims: Claims) -> str | None:
    """Return `cnf.jkt` (RFC 9449 section 6.1), or None for a token that is not bound to a key.

    What is not a string becomes the empty string, which is the thumbprint of no key.
    """
    confirmation = claims.get("cnf")
    if not isinstance(confirmation, dict) or "jkt" not in confirmation:
        return None
    value = confirmation["jkt"]
    return value if isinstance(value, str) else ""


def _date(claims: Claims, name: str) -> float | None:
    """Read a NumericDate (RFC 7519 section 2)."""
    if name not in claims:
        return None
    value = claims[name]
    if type(value) is int and abs(value) <= MAX_EXACT_INTEGER:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid_token(f"The token's {name} claim is not a number", Reason.CLAIMS)
    try:
        date = float(value)
    except OverflowError:
        date = inf
    if not isfinite(date):
        raise invalid_token(f"The token's {name} claim is out of range", Reason.CLAIMS)
    return date


def _strings(value: object) -> Sequence[str]:
    if isinstance(value, str):
        return (value,)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else ()


def _roles(value: object) -> Sequence[str]:
    """Return the roles of a claim: a string, a list, the keys of an object, or a boolean's word."""
    if isinstance(value, bool):
        return ("true" if value else "false",)
    return list(value) if isinstance(value, dict) else _strings(value)


def _texts(value: object) -> list[str]:
    """Return the strings of a claim or of its list; numbers and booleans by their JSON text."""
    values = value if isinstance(value, list) else [value]
    return [
        each if isinstance(each, str) else json.dumps(each)
        for each in values
        if isinstance(each, str | int | float)
    ]


def _scopes(claims: Claims) -> list[str]:
    return [each for name in _SCOPE_CLAIMS if name in claims for each in _strings(claims[name])]


def _consents(value: object) -> Sequence[str]:
    """Read an object of name to version, or a list of `name@version`."""
    if isinstance(value, dict):
        items = value.items()
        return [f"{name}@{version}" for name, version in items if isinstance(version, str)]
    return _strings(value) if isinstance(value, list) else ()


@lru_cache(maxsize=128)
def _shared(*values: str) -> frozenset[str]:
    """Share one set between all tokens with the same values: many tokens, few distinct sets."""
    return frozenset(values)


@lru_cache(maxsize=64)
def _shared_names(*values: str) -> tuple[str, ...]:
    """Share one tuple."""
    return values


@lru_cache(maxsize=64)
def _scopes_of(*values: str) -> frozenset[str]:
    """Split scopes at spaces (RFC 6749 section 3.3); one set is shared."""
    return frozenset(scope for value in values for scope in value.split(" ") if scope)
