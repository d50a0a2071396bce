"""Authentication: the token of the request, and its principal.

A bearer token (RFC 6750 section 2.1), or one that is bound to a key of the app, with a proof that
the app has the key (DPoP, RFC 9449 section 7).
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Final, Protocol

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.context import PRINCIPAL, Principal
from middlewares.errors import ERRORS, ApiError, ErrorCode, Reason

MAX_TOKEN_BYTES: Final = 16000

PROOF_HEADER: Final = "DPoP"

_COMPACT_JWS: Final = r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"

Authenticate = Callable[[str], Awaitable[Principal]]
"""Verifies a compact JWS and returns its principal. Raises `ApiError` for an invalid token."""


def authentication(*, authenticate: Authenticate) -> Middleware:
    """Set the `Principal` of each request; reject a request without a valid token."""

    @web.middleware
    async def authentication_middleware(
        request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        token = bearer_token(request.headers.getall(hdrs.AUTHORIZATION, ()))
        request[PRINCIPAL] = await authenticate(token)
        return await handler(request)

    return authentication_middleware


def make_token_reader(*schemes: str) -> Callable[[Sequence[str]], str]:
    """Return the function that reads the token from the values of all `Authorization` headers.

    It raises `ApiError`: AUTH_TOKEN_MISSING without a header, INVALID_REQUEST for several (RFC 6750
    section 3.1), AUTH_TOKEN_INVALID for anything but one of the schemes and a compact JWS of three
    segments.
    """
    offer = " or ".join(f"{scheme} <JWT>" for scheme in schemes)
    names = {scheme.lower() for scheme in schemes}
    credentials = re.compile(f"(?i:{'|'.join(schemes)}) +({_COMPACT_JWS})")

    def read_token(values: Sequence[str]) -> str:
        if not values:
            details = f"Send the patient's token: Authorization: {offer}"
            raise ApiError(ErrorCode.AUTH_TOKEN_MISSING, details)
        if len(values) > 1:
            raise ApiError(ErrorCode.INVALID_REQUEST, "Send exactly one Authorization header")
        match = credentials.fullmatch(values[0])
        if match is None:
            raise ApiError(
                ErrorCode.AUTH_TOKEN_INVALID,
                f"Authorization must be: {offer}, a compact JWS of three base64url segments",
                reason=Reason.FORMAT if scheme_of(values[0]) in names else Reason.SCHEME,
            )
        token = match[1]
        if len(token) > MAX_TOKEN_BYTES:
            raise ApiError(
                ErrorCode.AUTH_TOKEN_INVALID,
                f"The token is longer than {MAX_TOKEN_BYTES} bytes",
                reason=Reason.FORMAT,
            )
        return token

    return read_token


bearer_token: Final = make_token_reader("Bearer")
"""Reads a bearer token."""


def scheme_of(value: str) -> str:
    """Return the scheme of an `Authorization` header in lower case (RFC 9110 section 11.1)."""
    return value.partition(" ")[0].lower()


# --- bound tokens ---------------------------------------------------------------------------------


class Scheme(StrEnum):
    """An authentication scheme, as a challenge names it."""

    BEARER = "Bearer"
    DPOP = "DPoP"


class VerifyProof(Protocol):
    """Verifies a proof and returns its `jti`. Raises `ApiError` AUTH_TOKEN_INVALID."""

    def __call__(
        self, proof: str, *, method: str, path: str, token: str, key_thumbprint: str
    ) -> str:
        """`path` is the path of the request as the client wrote it."""


UseProof = Callable[[str, str], Awaitable[bool]]
"""Remembers the `jti` of a proof with the thumbprint of its key; returns whether it is new.

Raises `ApiError` AUTH_UNAVAILABLE when it cannot be remembered.
"""


def dpop_authentication(
    *,
    authenticate: Authenticate,
    verify_proof: VerifyProof,
    use_proof: UseProof,
    algorithms: str,
    required: bool,
) -> Middleware:
    """Set the `Principal` of each request; a token that is bound to a key needs a proof.

    With `required`, bearer tokens are rejected. `algorithms` are those of proofs, for challenges.
    Challenges, also those of the inner middlewares, name the scheme that the request used.
    """
    schemes = (Scheme.DPOP,) if required else (Scheme.BEARER, Scheme.DPOP)
    read_token = make_token_reader(*schemes)

    async def authenticated(request: web.Request, used: Scheme | None) -> Principal:
        token = read_token(request.headers.getall(hdrs.AUTHORIZATION, ()))
        principal = await authenticate(token)
        key_thumbprint = principal.key_thumbprint
        if used is Scheme.DPOP:
            proof_id, thumbprint = _verified(request, token, key_thumbprint, verify_proof)
            if not await use_proof(proof_id, thumbprint):
                raise faulty_proof("was used before (jti); sign a new one for each request")
        elif key_thumbprint is not None:
            raise wrong_scheme("The token is bound to a key (cnf); send it with the scheme DPoP")
        return principal

    @web.middleware
    async def dpop_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        used = _scheme_of(request.headers.getall(hdrs.AUTHORIZATION, ()))
        try:
            request[PRINCIPAL] = await authenticated(request, used)
            return await handler(request)
        except ApiError as error:
            _set_challenge(error, (used,) if used else schemes, algorithms)
            raise

    return dpop_middleware


def faulty_proof(problem: str) -> ApiError:
    """Return the error for a faulty proof; `problem` completes "The DPoP proof"."""
    challenge = f'{ERRORS[ErrorCode.AUTH_TOKEN_MISSING].challenge}, error="invalid_dpop_proof"'
    return ApiError(
        ErrorCode.AUTH_TOKEN_INVALID,
        f"The DPoP proof {problem}",
        headers={hdrs.WWW_AUTHENTICATE: challenge},
        reason=Reason.DPOP,
    )


def _verified(
    request: web.Request, token: str, key_thumbprint: str | None, verify_proof: VerifyProof
) -> tuple[str, str]:
    """Verify the proof of a request; return its `jti` and the thumbprint of its key."""
    if key_thumbprint is None:
        raise wrong_scheme("The token is not bound to a key: it has no cnf.jkt")
    proof_id = verify_proof(
        _only_proof(request.headers.getall(PROOF_HEADER, ())),
        method=request.method,
        path=request.rel_url.raw_path,
        token=token,
        key_thumbprint=key_thumbprint,
    )
    return proof_id, key_thumbprint


def wrong_scheme(details: str) -> ApiError:
    """Return the error for a token that was sent with the scheme of the other kind."""
    return ApiError(ErrorCode.AUTH_TOKEN_INVALID, details, reason=Reason.DPOP)


def _only_proof(values: Sequence[str]) -> str:
    if len(values) != 1:
        raise faulty_proof("must be sent in exactly one DPoP header")
    return values[0]


def _scheme_of(values: Sequence[str]) -> Scheme | None:
    """Return the scheme of a single `Authorization` header, or None for another scheme."""
    name = scheme_of(values[0]) if len(values) == 1 else ""
    return next((scheme for scheme in Scheme if scheme.lower() == name), None)


def _set_challenge(error: ApiError, schemes: Sequence[Scheme], algorithms: str) -> None:
    """Replace the challenge of the table, which is that of Bearer; several are one header."""
    table = ERRORS[error.code].challenge
    if table is None:
        return
    parameters = error.headers.get(hdrs.WWW_AUTHENTICATE, table).partition(" ")[2]
    endings = {Scheme.BEARER: "", Scheme.DPOP: f', algs="{algorithms}"'}
    error.headers[hdrs.WWW_AUTHENTICATE] = ", ".join(
        f"{scheme} {parameters}{endings[scheme]}" for scheme in schemes
    )
