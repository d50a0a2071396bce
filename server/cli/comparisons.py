"""What Vapi and the identity provider say of themselves, compared with this machine's settings."""

import json
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import Final

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession, hdrs
from environs import ValidationError
from yarl import URL

from server.config import Settings
from server.config.validators import secure_url
from server.http_client import FetchError, fetch_json

_MAX_CLOCK_SECONDS: Final = 60
_TIMEOUT_SECONDS: Final = 2.0
_MAX_LENGTH: Final = 200


class Clocks:
    """How far this machine's clock is from those of Vapi and the identity provider."""

    def __init__(self, settings: Settings) -> None:
        provider = "the identity provider"
        self._names = {URL(settings.vapi_base_url).origin(): "Vapi"}
        if settings.jwt_jwks_url:
            self._names[URL(settings.jwt_jwks_url).origin()] = provider
        self._ahead: dict[str, float] = {}

    async def observe(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Read the `Date` of a response; one from a cache has an `Age` since then."""
        response = await handler(request)
        if name := self._names.get(request.url.origin()):
            with suppress(KeyError, ValueError, OverflowError):
                date = parsedate_to_datetime(response.headers[hdrs.DATE]).timestamp()
                self._ahead[name] = time() - date - int(response.headers.get(hdrs.AGE, "0"))
        return response

    def warnings(self) -> list[str]:
        """Return a warning for each clock that differs."""
        return [
            f"the clock: is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {name}'s "
            "(Date), so sound tokens are refused; set the clock, with NTP"
            for name, ahead in self._ahead.items()
            if abs(ahead) > _MAX_CLOCK_SECONDS
        ]


_PATH: Final = "/.well-known/openid-configuration"


async def compare_discovery(settings: Settings, session: ClientSession) -> list[str]:
    """Return a warning for each setting that differs, or one if the document cannot be fetched."""
    if not settings.jwt_jwks_url:
        return []
    found = [await _compare(settings, issuer, session) for issuer in settings.jwt_issuer]
    return [warning for warnings in found for warning in warnings]


async def _compare(settings: Settings, issuer: str, session: ClientSession) -> list[str]:
    try:
        secure_url(issuer)
        url = issuer.rstrip("/") + _PATH
        document = await fetch_json(session, url, _TIMEOUT_SECONDS)
    except ValidationError:
        reason = "it is not an https address"
    except FetchError as error:
        reason = str(error)
    else:
        return list(_differences(settings, issuer, document))
    return [f"JWT_ISSUER: its discovery document cannot be fetched ({reason}); not compared"]


def _differences(settings: Settings, issuer: str, document: object) -> Iterator[str]:
    members = document if isinstance(document, dict) else {}
    expected = (
        ("JWT_ISSUER", "issuer", issuer),
        ("JWT_JWKS_URL", "jwks_uri", settings.jwt_jwks_url),
    )
    for name, member, configured in expected:
        value = members.get(member)
        if value != configured:
            shown = json.dumps(value)[:_MAX_LENGTH] if isinstance(value, str) else "no text"
            yield f"{name}: differs from {member} in the issuer's discovery document: {shown}"
