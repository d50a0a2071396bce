"""The application: the chain as one list, and the routes that it guards."""

from collections.abc import AsyncIterator, Callable
from enum import Enum, auto
from functools import partial
from time import time
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.audit import audit
from middlewares.authentication import authentication
from middlewares.cors import cors
from middlewares.deadline import Budgets, deadline
from middlewares.errors import errors
from middlewares.patient import patient
from middlewares.rate_limit import rate_limit
from middlewares.revocation import revocation
from middlewares.timing import hide_server, timing
from server import ops
from server.credentials import make_issuer
from server.logs import AuditLog, configure_logging, to_standard_output
from server.metrics import Metrics
from server.parts import Parts
from server.process import settings_or_exit
from server.routes import add_fallback, add_route
from server.runner import BUDGETS, WorkerRunner
from server.session import make_start
from server.settings import Settings
from server.tokens import make_verifier

EVENT: Final = "vapi_session_start"
PREFIX: Final = "/api/v1/sessions"
PATH: Final = "/vapi/start"

_GUNICORN_GIVES_UP: Final = 3
"""What a worker exits with that cannot start (`Arbiter.WORKER_BOOT_ERROR`): the master then ends,
where it would start one after the other. With `gunicorn.conf.py` it ends before, with 78."""


class On(Enum):
    """Which requests a link of the chain sees."""

    ALL = auto()
    ENDPOINT = auto()


def chain(
    settings: Settings, parts: Parts, audit_log: AuditLog, budgets: Budgets
) -> list[tuple[On, Middleware]]:
    """Every link that a request passes, outermost first, and why it stands where it does."""
    role, scope = settings.jwt_patient_role, settings.jwt_required_scope
    origins, is_revoked, hit = settings.cors_allowed_origins, parts.is_revoked, parts.hit
    links: list[tuple[On, Middleware | None]] = [
        # Names the request, and sees the final status of everything.
        (On.ALL, audit(event=EVENT, write=audit_log, hash_key=settings.audit_hash_key)),
        # Measures everything, and so sets its headers on errors too.
        (On.ALL, timing(observe=parts.metrics.observe if parts.metrics else None)),
        # Outside errors: scripts of an allowed origin must be able to read those as well.
        (On.ALL, cors(origins=origins) if origins else None),
        # Whatever is raised below leaves as an envelope.
        (On.ALL, errors()),
        # Inside errors, so that running out of time is answered like any other failure.
        (On.ALL, deadline(budgets=budgets)),
        # Nothing below runs for a stranger.
        (On.ENDPOINT, authentication(verify=make_verifier(parts.keys, parts.rules, time))),
        # Before anything else is said to somebody whose access has ended.
        (On.ENDPOINT, revocation(is_revoked=is_revoked) if is_revoked else None),
        # Whoever is no patient is turned away before being counted as one.
        (On.ENDPOINT, patient(role=role, scope=scope, id_claim=settings.jwt_patient_id_claim)),
        # Last before the handler: a request too many is not worth reading its body.
        (On.ENDPOINT, rate_limit(hit=hit) if hit else None),
    ]
    return [(on, link) for on, link in links if link is not None]


def create_app(settings: Settings) -> web.Application:
    """Make the whole service: the endpoint under its usual path, and the operator's routes."""
    metrics = (
        Metrics(jwks=bool(settings.jwt_jwks_url), redis=bool(settings.redis_url))
        if settings.metrics_enabled
        else None
    )
    parts = Parts(settings, metrics)
    app = _application(settings, parts, PREFIX + PATH)
    ops.add_routes(app, settings, parts, PREFIX + PATH)
    add_fallback(app)
    return app


def mount(host_app: web.Application, settings: Settings, prefix: str = PREFIX) -> web.Application:
    """Add the endpoint to a host application at `{prefix}/vapi/start`; give what was added.

    It stands there as a sub-application of its own, down to the very path: whatever else the host
    serves under the prefix stays the host's. Call it before the host application starts.

    Raises ValueError for a prefix that is neither empty nor starts with a slash.
    """
    if prefix and not prefix.startswith("/"):
        raise ValueError("prefix must start with a slash")
    sub_app = _application(settings, Parts(settings), "")
    add_fallback(sub_app)
    host_app.add_subapp(prefix.rstrip("/") + PATH, sub_app)
    return sub_app


def _application(settings: Settings, parts: Parts, path: str) -> web.Application:
    audit_log = AuditLog(to_standard_output)
    budgets = Budgets(settings.session_budget_seconds)
    links = chain(settings, parts, audit_log, budgets)
    app = web.Application(middlewares=[link for on, link in links if on is On.ALL])
    app[BUDGETS] = budgets
    app.on_response_prepare.append(hide_server)
    app.cleanup_ctx.append(partial(_lifespan, parts, audit_log.flush))
    start: Handler = make_start(
        assistant_id=settings.vapi_assistant_id,
        max_body_bytes=settings.max_body_bytes,
        issue=make_issuer(settings, time),
        require_vapi=parts.vapi.require,
        clock=time,
    )
    for on, link in reversed(links):
        if on is On.ENDPOINT:
            start = partial(link, handler=start)
    add_route(app, hdrs.METH_POST, path, start, name=EVENT)
    return app


async def _lifespan(
    parts: Parts, flush: Callable[[], None], _: web.Application
) -> AsyncIterator[None]:
    async with parts.running():
        yield
    flush()


async def app_factory() -> web.AppRunner:
    """Make the service for gunicorn, from the environment: `gunicorn server.app:app_factory`."""
    settings = settings_or_exit(status=_GUNICORN_GIVES_UP)
    configure_logging(settings.log_level, settings.log_format)
    return WorkerRunner(create_app(settings), grace=settings.shutdown_grace_seconds)
