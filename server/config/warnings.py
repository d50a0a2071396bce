"""Warnings: valid settings that probably differ from what the operator wants."""

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Final

from server.config.settings import SECRETS, Settings

_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def find_questionable(settings: Settings) -> Iterator[str]:
    """Yield a warning for each valid setting that is probably a mistake."""
    if settings.jwt_jwks_url and not settings.jwt_audience:
        yield (
            "JWT_AUDIENCE: is empty, so tokens that the identity provider issued for other "
            "applications are accepted; set the audience of this service"
        )
    if not _UUID.fullmatch(settings.vapi_assistant_id):
        yield (
            "VAPI_ASSISTANT_ID: is not a UUID, which ids of Vapi's assistants are; copy it from "
            "the dashboard, under Assistants"
        )
    for item in fields(settings):
        name, value = item.name.upper(), getattr(settings, item.name)
        if name not in SECRETS and isinstance(value, str) and value != value.strip():
            yield f"{name}: begins or ends with white space, which counts as part of the value"
