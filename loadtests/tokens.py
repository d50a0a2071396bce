"""Distinct tokens: valid ones and every kind of invalid ones."""

import secrets
from collections.abc import Callable
from time import time
from typing import Any

import jwt

Make = Callable[[str], tuple[str, str]]
"""Takes a secret. Returns a patient id and a token."""


def _claims(**more: Any) -> dict[str, Any]:
    now = int(time())
    patient = f"pt_{secrets.token_hex(8)}"
    return {
        "id": patient,
        "type": "patient",
        "jti": secrets.token_hex(8),
        "iat": now,
        "exp": now + 600,
        **more,
    }


def _sign(claims: dict[str, Any], secret: str, **header: str) -> tuple[str, str]:
    return str(claims["id"]), jwt.encode(claims, secret, "HS256", headers=header or None)


def good(secret: str) -> tuple[str, str]:
    """Return a valid token."""
    return _sign(_claims(), secret)


def with_key_id(secret: str) -> tuple[str, str]:
    """Return a valid token with a header that no other token has."""
    return _sign(_claims(), secret, kid=secrets.token_hex(8))


def expired(secret: str) -> tuple[str, str]:
    """Return an expired token."""
    return _sign(_claims(exp=int(time()) - 60), secret)


def forged(_: str) -> tuple[str, str]:
    """Return a token signed with another secret."""
    return _sign(_claims(), "another secret of sufficient length")


def other_role(secret: str) -> tuple[str, str]:
    """Return a token of another role."""
    return _sign(_claims(type="nurse"), secret)


def malformed(_: str) -> tuple[str, str]:
    """Return a value that is not a token."""
    return "pt_malformed", secrets.token_urlsafe(300)
