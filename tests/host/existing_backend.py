"""An existing backend with its own routes, errors, log and clean-up."""

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web
from aiohttp.typedefs import Handler

log = logging.getLogger("backend")


@dataclass
class Diary:
    """The events of the backend, in order."""

    entries: list[str] = field(default_factory=list)


DIARY = web.AppKey("DIARY", Diary)


@web.middleware
async def own_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Convert errors in the backend's own format."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return web.json_response({"oops": error.reason}, status=error.status)
    except ValueError as error:
        log.warning("backend failed: %s", error)
        return web.json_response({"oops": "crashed", "why": str(error)}, status=500)


@web.middleware
async def own_log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Record each request and mark each response."""
    response = await handler(request)
    request.app[DIARY].entries.append(f"{request.method} {request.path} {response.status}")
    response.headers["X-Backend"] = "existing"
    return response


async def login(request: web.Request) -> web.Response:
    """`/auth/login`."""
    form = await request.json()
    if form.get("password") != "right":
        raise web.HTTPUnauthorized
    return web.json_response({"token": "issued"})


async def refresh(_: web.Request) -> web.Response:
    """`/auth/refresh`: a cookie and a redirect."""
    response = web.HTTPFound("/auth/me")
    response.set_cookie("session", "fresh", httponly=True)
    raise response


async def make_call(request: web.Request) -> web.Response:
    """`/make-call`, with its envelopes."""
    body = await request.json()
    if "phoneNumber" not in body:
        error = {"error": "Internal server error", "details": "phoneNumber is missing"}
        return web.json_response(error, status=500)
    return web.json_response({"success": True, "data": {"id": "call_1"}, "message": "Call made"})


async def upload(request: web.Request) -> web.Response:
    """Return the size of an upload."""
    size = 0
    async for part in await request.multipart():
        size += len(await part.read())  # type: ignore[union-attr]  # the test sends no nested parts
    return web.Response(text=str(size))


async def stream(request: web.Request) -> web.StreamResponse:
    """Stream a response."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    for piece in (b"one ", b"two ", b"three"):
        await response.write(piece)
    return response


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """Echo the request."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            await socket.send_str(message.data.upper())
    return socket


async def crash(_: web.Request) -> web.Response:
    """Raise an unexpected error."""
    raise ValueError("unforeseen")


async def session_by_id(request: web.Request) -> web.Response:
    """A route of the backend under the prefix of the endpoint."""
    return web.Response(text=json.dumps({"session": request.match_info["id"]}))


async def _life(app: web.Application) -> AsyncIterator[None]:
    app[DIARY].entries.append("started")
    yield
    app[DIARY].entries.append("cleaned up")


def create_backend() -> web.Application:
    """Return the backend, not started."""
    app = web.Application(middlewares=[own_log, own_errors], client_max_size=2**16)
    app[DIARY] = Diary()
    app.cleanup_ctx.append(_life)
    app.add_routes(
        [
            web.post("/auth/login", login),
            web.post("/auth/refresh", refresh),
            web.post("/make-call", make_call),
            web.post("/upload", upload),
            web.get("/stream", stream),
            web.get("/ws", websocket),
            web.get("/crash", crash),
        ]
    )
    return app


def add_late_routes(app: web.Application) -> None:
    """Add routes after the endpoint was mounted."""
    app.router.add_get("/api/v1/sessions/{id}", session_by_id)
    app.router.add_get("/api/v1/sessions/vapi/{id}", session_by_id)
