"""aiohttp-jwt, made to hold: one key, the contract's errors, nothing of its own in the log.

aiohttp-jwt decodes inside a middleware. Here that middleware is given, in place of a request, a
carrier of the token alone, and in place of a handler one that hands the claims back; and it decodes
with `decode` in place of PyJWT's, which takes longer (docs/performance.md) and would judge what is
left to `ClaimRules`: dates, the types of `sub` and `jti`, an audience that nobody asked about.
"""

import logging
from collections.abc import Awaitable, Callable
from importlib.util import find_spec, module_from_spec
from types import SimpleNamespace
from typing import Any, Final

import jwt

from middlewares.catalogue import ApiError
from middlewares.claims import Claims, invalid
from middlewares.verification import decode
from middlewares.verification_key import VerificationKey

log = logging.getLogger(__name__)

Decoder = Callable[[str], Awaitable[Claims]]
"""Takes a compact JWS, gives its claims once its signature, issuer and audience hold.

Raises `ApiError` AUTH_TOKEN_INVALID. The dates are left to `ClaimRules`.
"""


def _load_library() -> Any:
    """Load aiohttp-jwt's middleware once more, for this module alone: what is set in it here, and
    what it sets itself, does not reach a host application that uses the library too.
    """
    spec: Any = find_spec("aiohttp_jwt.middleware")
    library: Any = module_from_spec(spec)
    spec.loader.exec_module(library)
    library.jwt = SimpleNamespace(decode=decode, InvalidTokenError=jwt.InvalidTokenError)
    return library


aiohttp_jwt: Final = _load_library()
"""aiohttp-jwt's middleware, which decodes with `decode`."""


class _Carrier(dict[str, Any]):
    """What aiohttp-jwt is given for a request: a method, a place for the claims, the token."""

    method = "POST"

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token


async def _hand_back(carrier: _Carrier) -> Claims:
    claims: Claims = carrier["claims"]
    return claims


def make_decoder(
    algorithm: str,
    key: object,
    *,
    issuer: str | None = None,
    audience: str | None = None,
) -> Decoder:
    """Make the decoder of one prepared key and the one algorithm it is used with.

    None for `issuer` or `audience` leaves the claim unchecked.
    """
    middleware = aiohttp_jwt.JWTMiddleware(
        VerificationKey(algorithm, key),
        request_property="claims",
        credentials_required=False,  # `decode` refuses an empty token like any other that is none
        token_getter=lambda carrier: carrier.token,
        audience=audience,
        issuer=issuer,
    )

    async def decoder(token: str) -> Claims:
        try:
            claims: Claims = await middleware(_Carrier(token), _hand_back)
        except ApiError:
            raise
        except Exception:
            log.exception("a token was refused for a reason that nobody foresaw")
            raise invalid("The token is malformed") from None
        return claims

    return decoder
