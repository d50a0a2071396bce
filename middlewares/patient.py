"""Lets patients pass, and nobody else: role, scope, and an id to know them by."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from middlewares.catalogue import ApiError, ErrorCode
from middlewares.context import PATIENT_ID, PRINCIPAL, Principal


def patient(*, role: str, scope: str = "", id_claim: str) -> Middleware:
    """Refuse callers without the role, without the scope (several: space-separated), without an id.

    `id_claim` names, in the error, the claim that held no usable patient id.
    """
    if not role:
        raise ValueError("role must not be empty")
    required = frozenset(scope.split())

    @web.middleware
    async def patient_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[PATIENT_ID] = _admit(request.get(PRINCIPAL), role, required, id_claim)
        return await handler(request)

    return patient_middleware


def _admit(principal: Principal | None, role: str, required: frozenset[str], id_claim: str) -> str:
    if principal is None or role not in principal.roles:
        raise ApiError(ErrorCode.FORBIDDEN, "Only patients can access voice assistant")
    if not required <= principal.scopes:
        details = f"The token must grant the scope: {' '.join(sorted(required))}"
        raise ApiError(ErrorCode.INSUFFICIENT_SCOPE, details)
    if principal.patient_id is None:
        details = f"The token carries no usable patient id in its claim {id_claim}"
        raise ApiError(ErrorCode.INVALID_PATIENT_CONTEXT, details)
    return principal.patient_id
