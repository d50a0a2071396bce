"""The adapter to aiohttp-jwt: the one module that uses the library.

The library contributes the dispatch of its middleware: it gets the token from the token getter,
decodes it, and puts the claims on the request. It lacks a strict reading of `Authorization`, more
than one key, a required `exp`, leeway, the error codes of this service and a quiet log
(docs/decisions/0001-aiohttp-jwt-adapter.md). Therefore its middleware gets a minimal request with
only the token, and decodes with a function of ours that closes over the verification key.
"""

import logging
from collections.abc import Awaitable, Callable
from importlib.util import find_spec, module_from_spec
from types import SimpleNamespace
from typing import Any, Final

import jwt

from middlewares.errors import ApiError, Reason
from server.auth.claims import Claims, invalid_token
from server.auth.tokens import Decode

log = logging.getLogger(__name__)

Decoder = Callable[[str], Awaitable[Claims]]
"""Verifies a compact JWS and returns its claims. Raises `ApiError` AUTH_TOKEN_INVALID.

The dates are not checked here; `ClaimRules` checks them.
"""

_MODULE: Final[Any] = find_spec("aiohttp_jwt.middleware")
_PLACEHOLDER: Final = "aiohttp-jwt requires a string here; the decode function has the key"


class _TokenRequest(dict[str, Any]):
    """The minimal request that aiohttp-jwt needs: a method, the token, storage for the claims."""

    method = "POST"

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token


def make_decoder(decode: Decode) -> Decoder:
    """Return a decoder that runs `decode` inside aiohttp-jwt's middleware."""
    middleware = _private_copy(decode).JWTMiddleware(
        _PLACEHOLDER,
        request_property="claims",
        credentials_required=False,  # an empty token is rejected by `decode`, like any other
        token_getter=lambda request: request.token,
    )

    async def decoder(token: str) -> Claims:
        try:
            claims: Claims = await middleware(_TokenRequest(token), _return_claims)
        except ApiError:
            raise
        except Exception:
            log.exception("a token was rejected because of an unexpected error")
            raise invalid_token("The token is malformed", Reason.FORMAT) from None
        return claims

    return decoder


def _private_copy(decode: Decode) -> Any:
    """Load a copy of aiohttp-jwt's middleware module that decodes with `decode`.

    The copy is private: a host application that uses the library keeps its own module unchanged.
    """
    library: Any = module_from_spec(_MODULE)
    _MODULE.loader.exec_module(library)
    library.jwt = SimpleNamespace(
        decode=lambda token, _key, **_options: decode(token),
        InvalidTokenError=jwt.InvalidTokenError,
    )
    return library


async def _return_claims(request: _TokenRequest) -> Claims:
    claims: Claims = request["claims"]
    return claims
