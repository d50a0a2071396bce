"""Consent: a session is granted only when each required consent is given in its version."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from middlewares.context import Principal
from middlewares.errors import ApiError, ErrorCode
from server.config.validators import MAX_CONSENTS, NAME_FORMAT, NAME_PATTERN

_NAME: Final = re.compile(NAME_PATTERN)

CheckConsent = Callable[[Mapping[str, object], Principal], dict[str, str]]
"""Returns the required consents, version by name.

Raises `ApiError`: INVALID_REQUEST for a malformed `consent`, CONSENT_REQUIRED.
"""


def make_consent_check(required: Sequence[str], *, in_token: bool) -> CheckConsent | None:
    """Return the function that checks a request's body and principal; None when none is required.

    `required` are `name@version`. With `in_token` only the principal's consents count, else only
    the body's.
    """
    if not required:
        return None
    versions = dict(_split(each) for each in required)

    def check(body: Mapping[str, object], principal: Principal) -> dict[str, str]:
        given = principal.consents if in_token else _read(body.get("consent", {}))
        if missing := [each for each in required if each not in given]:
            raise ApiError(ErrorCode.CONSENT_REQUIRED, " ".join(missing))
        return versions

    return check


def _split(text: str) -> tuple[str, str]:
    name, _, version = text.partition("@")
    return name, version


def _read(consent: object) -> Collection[str]:
    """Return the `name@version` of each entry of the body's `consent`."""
    if not isinstance(consent, dict) or len(consent) > MAX_CONSENTS:
        details = f"consent must be an object with at most {MAX_CONSENTS} entries"
        raise ApiError(ErrorCode.INVALID_REQUEST, details)
    if not all(_is_name(each) for item in consent.items() for each in item):
        details = f"consent must have names and versions of {NAME_FORMAT}"
        raise ApiError(ErrorCode.INVALID_REQUEST, details)
    return {f"{name}@{version}" for name, version in consent.items()}


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None
