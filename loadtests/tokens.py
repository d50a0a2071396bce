"""Distinct tokens: valid ones and every kind of invalid ones."""

import secrets
from collections.abc import Callable
from time import time
from typing import Any

from rig.service import claims, sign

Make = Callable[[str], tuple[str, str]]
"""Takes a secret. Returns a patient id and a token."""


def _make(secret: str, kid: str | None = None, **more: Any) -> tuple[str, str]:
    patient = f"pt_{secrets.token_hex(8)}"
    headers = {} if kid is None else {"kid": kid}
    return patient, sign(claims(id=patient, jti=secrets.token_hex(8), **more), secret, **headers)


def good(secret: str) -> tuple[str, str]:
    """Return a valid token."""
    return _make(secret)


def with_key_id(secret: str) -> tuple[str, str]:
    """Return a valid token with a header that no other token has."""
    return _make(secret, kid=secrets.token_hex(8))


def expired(secret: str) -> tuple[str, str]:
    """Return an expired token."""
    return _make(secret, exp=int(time()) - 60)


def forged(_: str) -> tuple[str, str]:
    """Return a token signed with another secret."""
    return _make("another secret of sufficient length")


def other_role(secret: str) -> tuple[str, str]:
    """Return a token of another role."""
    return _make(secret, type="nurse")


def malformed(_: str) -> tuple[str, str]:
    """Return a value that is not a token."""
    return "pt_malformed", secrets.token_urlsafe(300)
