"""What verified claims mean here: their dates, and the caller they describe."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite
from typing import Final

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.context import Principal

Claims = Mapping[str, object]

PATIENT_ID_PATTERN: Final = "[A-Za-z0-9._:@|+/=-]{1,128}"
PATIENT_ID_IN_WORDS: Final = "1 to 128 characters out of A-Z a-z 0-9 ._:@|+/=-"

_PATIENT_ID: Final = re.compile(PATIENT_ID_PATTERN)
_SCOPE_CLAIMS: Final = ("scope", "scp", "scopes", "permissions")
_EXACT_INTEGER: Final = 2**53
"""Up to here a JSON number that was written with a fraction still is the whole number it says."""


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """Which claims tell of the caller, and how their dates are read.

    The claim names are exact, or dotted paths into nested claims. `leeway` and `max_lifetime` are
    seconds; a maximum of 0 is none.
    """

    patient_id_claim: str
    role_claim: str
    leeway: float = 0
    max_lifetime: float = 0

    def read(self, claims: Claims) -> Principal:
        """Read the caller from claims whose signature, issuer and audience hold.

        Whether it is their token's time, `check` tells. Raises `ApiError` AUTH_TOKEN_INVALID for
        dates or a `jti` that are none, and for a lifetime that is not allowed.
        """
        expires_at = _date(claims, "exp")
        issued_at = _date(claims, "iat")
        if expires_at is None:
            raise invalid("The token has no exp claim")
        if self.max_lifetime:
            self._check_lifetime(expires_at, issued_at)
        return Principal(
            patient_id=usable_id(lookup(claims, self.patient_id_claim)),
            roles=_roles_of(*_strings(lookup(claims, self.role_claim))),
            scopes=_scopes_of(*_scopes(claims)),
            token_id=_token_id(claims),
            valid_from=max(_date(claims, "nbf") or 0, issued_at or 0),
            expires_at=expires_at,
        )

    def _check_lifetime(self, expires_at: float, issued_at: float | None) -> None:
        if issued_at is None:
            raise invalid("The token has no iat claim, so its lifetime is unknown")
        if expires_at - issued_at > self.max_lifetime:
            raise invalid("The token's lifetime (exp minus iat) is longer than allowed")

    def check(self, principal: Principal, now: float) -> None:
        """Hold a caller's token against the time, in seconds since the epoch.

        Raises `ApiError`: AUTH_TOKEN_EXPIRED when `exp` has passed, AUTH_TOKEN_INVALID while `nbf`
        or `iat` lies ahead.
        """
        if principal.expires_at + self.leeway <= now:
            raise ApiError(ErrorCode.AUTH_TOKEN_EXPIRED, "Refresh the token and try again")
        if principal.valid_from - self.leeway > now:
            raise invalid("The token is not valid yet (nbf or iat lies ahead)")


def invalid(details: str) -> ApiError:
    """Say that a token proves nothing, and why, in words that repeat none of its content."""
    return ApiError(ErrorCode.AUTH_TOKEN_INVALID, details)


def lookup(claims: Claims, path: str) -> object:
    """Find a claim by its exact name, else by a dotted path into nested claims; None if absent."""
    if path in claims:
        return claims[path]
    value: object = claims
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def usable_id(value: object) -> str | None:
    """Give a patient id as text; a whole number counts as its digits. None for all else."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_INTEGER:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _PATIENT_ID.fullmatch(value) else None


def _token_id(claims: Claims) -> str | None:
    value = claims.get("jti")
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise invalid("The token's jti claim is not a string")


def _date(claims: Claims, name: str) -> float | None:
    """Read a NumericDate (RFC 7519 section 2)."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(f"The token's {name} claim is not a number")
    try:
        date = float(value)
    except OverflowError:
        date = inf
    if not isfinite(date):
        raise invalid(f"The token's {name} claim is out of range")
    return date


def _strings(value: object) -> Sequence[str]:
    if isinstance(value, str):
        return (value,)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else ()


def _scopes(claims: Claims) -> Iterator[str]:
    for name in _SCOPE_CLAIMS:
        if name in claims:
            yield from _strings(claims[name])


@lru_cache(maxsize=64)
def _roles_of(*values: str) -> frozenset[str]:
    """Give one set to all whose claim says the same: these are few, and their tokens many."""
    return frozenset(values)


@lru_cache(maxsize=64)
def _scopes_of(*values: str) -> frozenset[str]:
    """Take scopes apart (RFC 6749 section 3.3), as above."""
    return frozenset(scope for value in values for scope in value.split(" ") if scope)
