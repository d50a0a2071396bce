"""Authorization: only patients with the required scope and a usable patient id pass."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from middlewares.context import PATIENT_ID, PRINCIPAL, Principal
from middlewares.errors import ApiError, ErrorCode


def authorization(*, role: str | None, scope: str = "", id_claim: str) -> Middleware:
    """Reject a principal without the role, without a required scope, or without a patient id.

    With the role None every principal is a patient. `scope` is a space-separated list (RFC 6749
    section 3.3); all of it is required. `id_claim` is the claim that the error names when it
    contains no usable patient id.
    Raises ValueError for an empty role; the middleware raises `ApiError` FORBIDDEN,
    INSUFFICIENT_SCOPE or INVALID_PATIENT_CONTEXT.
    """
    if role == "":
        raise ValueError("role must not be empty")
    required = frozenset(scope.split())

    @web.middleware
    async def authorization_middleware(
        request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        principal = check_role(request.get(PRINCIPAL), role)
        check_scope(principal, required)
        request[PATIENT_ID] = check_patient_id(principal, id_claim)
        return await handler(request)

    return authorization_middleware


def is_authorized(principal: Principal, role: str | None, required: frozenset[str]) -> bool:
    """Return whether a principal passes all checks."""
    try:
        check_role(principal, role)
        check_scope(principal, required)
    except ApiError:
        return False
    return principal.patient_id is not None


def check_role(principal: Principal | None, role: str | None) -> Principal:
    """Return a principal with the role of a patient. Raises `ApiError` FORBIDDEN, also without one.

    With the role None every principal is a patient.
    """
    if principal is None or (role is not None and role not in principal.roles):
        raise ApiError(ErrorCode.FORBIDDEN, "Only patients can access voice assistant")
    return principal


def check_scope(principal: Principal, required: frozenset[str]) -> None:
    """Check that all required scopes are granted. Raises `ApiError` INSUFFICIENT_SCOPE."""
    if not required <= principal.scopes:
        details = f"The token must grant the scope: {' '.join(sorted(required))}"
        raise ApiError(ErrorCode.INSUFFICIENT_SCOPE, details)


def check_patient_id(principal: Principal, id_claim: str) -> str:
    """Return the patient id. Raises `ApiError` INVALID_PATIENT_CONTEXT without one."""
    if principal.patient_id is None:
        details = f"The token has no usable patient id in the claim {id_claim}"
        raise ApiError(ErrorCode.INVALID_PATIENT_CONTEXT, details)
    return principal.patient_id
