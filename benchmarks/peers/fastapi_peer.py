"""The same work as the service, done by FastAPI and PyJWT: token, role, rate limit, request id,
Server-Timing, standard headers and one JSON audit line for each request.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import Annotated
from uuid import uuid4

import jwt
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from pydantic import BaseModel

KEY = os.environ["PEER_KEY"]
ALGORITHM = os.environ["PEER_ALGORITHM"]
LIMIT = parse("1000000/minute")

app = FastAPI()
bearer = HTTPBearer()
limiter = FixedWindowRateLimiter(MemoryStorage())


class PatientContext(BaseModel):
    """The patient that the app names."""

    id: str


class StartRequest(BaseModel):
    """The optional body of a request."""

    patientContext: PatientContext | None = None  # noqa: N815  the API's own name


@app.exception_handler(HTTPException)
async def envelope(_: Request, error: HTTPException) -> JSONResponse:
    """Write the error envelope."""
    content = {"success": False, "error": {"code": error.detail, "message": "", "details": ""}}
    return JSONResponse(content, status_code=error.status_code)


@app.middleware("http")
async def audit(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Set the request id and the standard headers. Write the audit line."""
    started = perf_counter()
    request.state.patient = None
    request_id = request.headers.get("x-request-id") or uuid4().hex
    response = await call_next(request)
    milliseconds = (perf_counter() - started) * 1000
    response.headers["X-Request-ID"] = request_id
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server-Timing"] = f"total;dur={milliseconds:.3f}"
    line = {
        "event": "vapi_session_start",
        "timestamp": datetime.now(UTC).isoformat(),
        "request_id": request_id,
        "status": response.status_code,
        "patient": request.state.patient,
        "duration_ms": milliseconds,
        "client": request.client.host if request.client else None,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    return response


async def patient(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
) -> str:
    """Verify the token, the role and the rate limit. Return the patient id."""
    try:
        claims = jwt.decode(credentials.credentials, KEY, algorithms=[ALGORITHM])
    except jwt.InvalidTokenError:
        raise HTTPException(401, "AUTH_TOKEN_INVALID") from None
    if claims.get("type") != "patient":
        raise HTTPException(403, "FORBIDDEN")
    request.state.patient = claims["id"]
    if not await limiter.hit(LIMIT, claims["id"]):
        raise HTTPException(429, "RATE_LIMITED")
    return str(claims["id"])


@app.post("/api/v1/sessions/vapi/start")
async def start(
    patient_id: Annotated[str, Depends(patient)], body: StartRequest | None = None
) -> dict[str, object]:
    """Return the configuration of a session."""
    if body and body.patientContext and body.patientContext.id != patient_id:
        raise HTTPException(403, "PATIENT_MISMATCH")
    return {
        "success": True,
        "data": {
            "apiKey": "x" * 36,
            "credentialType": "public_key",
            "expiresAt": None,
            "assistantId": "y" * 36,
            "patientContext": {
                "id": patient_id,
                "validatedAt": datetime.now(UTC),
            },
        },
        "message": "Vapi configuration retrieved",
    }


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", access_log=False, log_level="error")
