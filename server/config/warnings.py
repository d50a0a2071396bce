"""Warnings: valid settings that probably differ from what the operator wants."""

import os
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Final

from server.config.settings import Settings

_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_QUOTED: Final = re.compile(r"(['\"]).*\1", re.DOTALL)
_DISCOVERY: Final = "/.well-known/openid-configuration"


def find_questionable(settings: Settings) -> Iterator[str]:
    """Yield a warning for each valid setting that is probably a mistake."""
    if settings.jwt_jwks_url and not settings.jwt_audience:
        yield (
            "JWT_AUDIENCE: is empty, so tokens that the identity provider issued for other "
            "applications are accepted; set the audience of this service"
        )
    if settings.jwt_jwks_url.endswith(_DISCOVERY):
        yield "JWT_JWKS_URL: looks like a discovery document; set the jwks_uri that it contains"
    if not _UUID.fullmatch(settings.vapi_assistant_id):
        yield "VAPI_ASSISTANT_ID: is not a UUID; copy the id of the assistant from the dashboard"
    yield from _find_surrounded(settings)


def _find_surrounded(settings: Settings) -> Iterator[str]:
    """Find what a shell would have removed; white space around a secret is a fault already."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if isinstance(value, str | bytes):
            text, name = os.fsdecode(value), item.name.upper()
            if _QUOTED.fullmatch(text):
                yield f"{name}: has quotation marks around it, which are part of the value"
            elif text != text.strip() and "-----BEGIN " not in text:
                yield f"{name}: has white space around it, which is part of the value"
