"""Compares the settings with the discovery document of the issuer (OpenID Discovery)."""

import json
from collections.abc import Iterator
from typing import Final

from aiohttp import ClientSession
from environs import ValidationError

from server.auth.keys.fetch_json import FetchError, fetch_json
from server.config import Settings
from server.config.validators import secure_url

_PATH: Final = "/.well-known/openid-configuration"
_TIMEOUT_SECONDS: Final = 2.0
_MAX_LENGTH: Final = 200


async def compare_discovery(settings: Settings, session: ClientSession) -> list[str]:
    """Return a warning for each setting that differs, or one if the document cannot be fetched."""
    if not (settings.jwt_jwks_url and settings.jwt_issuer):
        return []
    try:
        secure_url(settings.jwt_issuer)
        url = settings.jwt_issuer.rstrip("/") + _PATH
        document = await fetch_json(session, url, _TIMEOUT_SECONDS)
    except ValidationError:
        reason = "it is not an https address"
    except FetchError as error:
        reason = str(error)
    else:
        return list(_differences(settings, document))
    return [f"JWT_ISSUER: its discovery document cannot be fetched ({reason}); not compared"]


def _differences(settings: Settings, document: object) -> Iterator[str]:
    members = document if isinstance(document, dict) else {}
    for name, member in (("JWT_ISSUER", "issuer"), ("JWT_JWKS_URL", "jwks_uri")):
        value = members.get(member)
        if value != getattr(settings, name.lower()):
            shown = json.dumps(value)[:_MAX_LENGTH] if isinstance(value, str) else "no text"
            yield f"{name}: differs from {member} in the issuer's discovery document: {shown}"
