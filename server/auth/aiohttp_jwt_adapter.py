"""The adapter to aiohttp-jwt: the one module that uses the library.

The library contributes the dispatch of its middleware: it gets the token from the token getter,
decodes it, and puts the claims on the request. It lacks a strict reading of `Authorization`, more
than one key, a required `exp`, leeway, the error codes of this service and a quiet log
(docs/decisions/0001-aiohttp-jwt-adapter.md). Therefore its middleware gets a minimal request that
carries the token and the function that verifies it.
"""

import logging
from importlib.util import find_spec, module_from_spec
from types import SimpleNamespace
from typing import Any, Final

import jwt

from middlewares.errors import ApiError, Reason
from server.auth.claims import Claims, invalid_token
from server.auth.tokens import Verify

log = logging.getLogger(__name__)

_PLACEHOLDER: Final = "aiohttp-jwt requires a string here; the request has the key"


class _TokenRequest(dict[str, Any]):
    """The minimal request that aiohttp-jwt needs: a method, and storage for the claims.

    It stands for its token too, so that the library hands it to the decode function.
    """

    __slots__ = ("_token", "_verify")

    method = "POST"

    def __init__(self, token: str, verify: Verify) -> None:
        self._token = token
        self._verify = verify

    def encode(self) -> "_TokenRequest":
        """Return what is decoded: the library encodes a token that is not bytes."""
        return self

    def decode(self, _key: str, **_options: object) -> Claims:
        """Verify the token and return its claims."""
        return self._verify(self._token.encode())


def _make_middleware() -> Any:
    """Return the middleware of a copy of the library, which is loaded for this service alone.

    A host application that uses the library keeps its own module unchanged.
    """
    spec: Any = find_spec("aiohttp_jwt.middleware")
    library: Any = module_from_spec(spec)
    spec.loader.exec_module(library)
    library.jwt = SimpleNamespace(
        decode=_TokenRequest.decode, InvalidTokenError=jwt.InvalidTokenError
    )
    return library.JWTMiddleware(
        _PLACEHOLDER,
        request_property="claims",
        credentials_required=False,  # an empty token is rejected by `verify`, like any other
        token_getter=lambda request: request,
    )


async def _return_claims(request: _TokenRequest) -> Claims:
    claims: Claims = request["claims"]
    return claims


_middleware: Final = _make_middleware()


def verify_token(token: str, verify: Verify) -> Claims:
    """Verify a compact JWS with `verify`, inside aiohttp-jwt's middleware; return its claims.

    Raises `ApiError` AUTH_TOKEN_INVALID. The dates are checked by `ClaimRules`.
    """
    steps = _middleware(_TokenRequest(token, verify), _return_claims)
    try:
        while True:  # it never suspends, so the first step is the last
            steps.send(None)
    except StopIteration as end:
        claims: Claims = end.value
        return claims
    except ApiError:
        raise
    except Exception:
        log.exception("a token was rejected because of an unexpected error")
        raise invalid_token("The token is malformed", Reason.FORMAT) from None
