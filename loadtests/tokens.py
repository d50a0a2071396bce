"""Tokens by the hundred thousand: no two alike, good ones and every kind of bad."""

import secrets
from collections.abc import Callable
from time import time
from typing import Any

import jwt

Make = Callable[[str], tuple[str, str]]
"""Makes for a secret a patient's id and a token."""


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
    """One that is granted."""
    return _sign(_claims(), secret)


def with_key_id(secret: str) -> tuple[str, str]:
    """One that is granted, whose header no other token has."""
    return _sign(_claims(), secret, kid=secrets.token_hex(8))


def expired(secret: str) -> tuple[str, str]:
    """One that ran out."""
    return _sign(_claims(exp=int(time()) - 60), secret)


def forged(_: str) -> tuple[str, str]:
    """One that somebody else signed."""
    return _sign(_claims(), "somebody else's secret, of some length")


def of_a_nurse(secret: str) -> tuple[str, str]:
    """One of somebody who is no patient."""
    return _sign(_claims(type="nurse"), secret)


def junk(_: str) -> tuple[str, str]:
    """One that is no token at all."""
    return "pt_junk", secrets.token_urlsafe(300)
