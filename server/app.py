"""The application: the middleware stack as one list, and the routes behind it."""

from enum import Enum, auto
from functools import partial
from time import time
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from middlewares.audit import audit
from middlewares.authentication import PROOF_HEADER, authentication, dpop_authentication
from middlewares.authorization import authorization
from middlewares.context import STARTED_AT
from middlewares.cors import cors
from middlewares.errors import error_handler, outer_error_response
from middlewares.headers import Observer, remove_server_header, response_headers
from middlewares.rate_limit import rate_limit
from middlewares.revocation import revocation
from middlewares.timeout import RequestTimeouts, timeout
from server.admin_actions import ActionChannel
from server.api import operations
from server.api.operations import mount_proof_keys
from server.api.routing import FALLBACK, add_exact_subapp, add_fallback, add_route
from server.api.start_session import make_start_handler
from server.auth.authenticator import make_authenticator
from server.auth.claims import patient_role
from server.auth.dpop import ALGORITHMS, make_proof_verifier
from server.components import (
    Components,
    add_component_metrics,
    add_connection_metrics,
    add_process_metrics,
)
from server.config import Settings
from server.config.settings import DpopMode
from server.master_configuration import MASTER, WORKER_BOOT_ERROR
from server.observability.log_records import configure_logging
from server.observability.multiprocess import take_room
from server.policies.consent import make_consent_check
from server.proof import make_proof_issuer
from server.serving.connection_limits import Limits
from server.serving.gunicorn import worker_runner
from server.serving.server import INTERFACE, Interface, receives_compressed_bodies
from server.vapi.assistants import make_assistant_choice
from server.vapi.credentials import make_credential_issuer

if TYPE_CHECKING:
    from server.observability.metrics import Metrics

EVENT: Final = "vapi_session_start"
PREFIX: Final = "/api/v1/sessions"
PATH: Final = "/vapi/start"


class Where(Enum):
    """The requests that a middleware handles."""

    ALL = auto()
    ENDPOINT = auto()


def middleware_stack(
    settings: Settings,
    components: Components,
    timeouts: RequestTimeouts,
    observe: Observer | None = None,
) -> list[tuple[Where, Middleware]]:
    """Return the middlewares of a request, outermost first, each with the reason for its place."""
    role, scope = patient_role(settings), settings.jwt_required_scope
    acquire, revocations = components.acquire_rate_limit, components.revocations
    check_access = revocations.check_access if revocations else None
    has_access = check_access is not None
    id_claim = settings.jwt_patient_id_claim
    hash_key, proxies = settings.audit_hash_key, settings.trusted_proxies
    audit_log = components.audit_log
    lines = {"write": audit_log.write, "write_refusal": audit_log.write_refusal}
    stack: list[tuple[Where, Middleware | None]] = [
        # Outermost: it sets the request id and records the final status of every request.
        (Where.ALL, audit(event=EVENT, **lines, hash_key=hash_key, trusted_proxies=proxies)),
        # Outside the error handler: error responses are measured and get the headers too.
        (Where.ALL, response_headers(observe=observe)),
        # Outside the error handler: scripts of an allowed origin must be able to read errors.
        (Where.ALL, _cors(settings) if settings.cors_allowed_origins else None),
        # Every exception of the middlewares below becomes an error response.
        (Where.ALL, error_handler()),
        # Inside the error handler: an expired time limit is answered like any other error.
        (Where.ALL, timeout(timeouts=timeouts)),
        # Unauthenticated requests stop here; with JWT_DPOP also those without a proof.
        (Where.ENDPOINT, _authentication(settings, components)),
        # Before authorization: a caller whose access ended learns nothing else.
        (Where.ENDPOINT, revocation(check_access=check_access) if check_access else None),
        # Before the rate limit: only patients are counted.
        (Where.ENDPOINT, authorization(role=role, scope=scope, id_claim=id_claim)),
        # Innermost: the body of a request over the limit is not read.
        (Where.ENDPOINT, rate_limit(acquire=acquire, has_access=has_access) if acquire else None),
    ]
    return [(scope, middleware) for scope, middleware in stack if middleware is not None]


def _authentication(settings: Settings, components: Components) -> Middleware:
    required_type = settings.jwt_required_type
    authenticate = make_authenticator(components.keys, components.rules, time, required_type)
    if settings.jwt_dpop == DpopMode.OFF:
        return authentication(authenticate=authenticate)
    return dpop_authentication(
        authenticate=authenticate,
        verify_proof=make_proof_verifier(settings.public_url, time),
        use_proof=components.use_proof,
        algorithms=ALGORITHMS,
        required=settings.jwt_dpop == DpopMode.REQUIRE,
    )


def _cors(settings: Settings) -> Middleware:
    """With JWT_DPOP scripts may send proofs, and read the time that `iat` is compared with."""
    origins = settings.cors_allowed_origins
    if settings.jwt_dpop == DpopMode.OFF:
        return cors(origins=origins)
    return cors(origins=origins, request_headers=[PROOF_HEADER], exposed_headers=[hdrs.DATE])


def create_app(settings: Settings, actions: ActionChannel | None = None) -> web.Application:
    """Create the whole service: the endpoint at its usual path, and the operational routes.

    Lines that come through `actions` are written to the audit log.
    """
    components = Components(settings, actions)
    metrics = _make_metrics() if settings.metrics_enabled and take_room() else None
    observe = metrics.observe if metrics else None
    timeouts = RequestTimeouts(settings.session_budget_seconds)
    app = _application(settings, components, PREFIX + PATH, timeouts, observe)
    app[INTERFACE] = interface = Interface(
        error_response=outer_error_response,
        started_at=STARTED_AT,
        expire_requests=timeouts.expire_all,
    )
    operations.add_routes(app, settings, components, interface.shutting_down)
    if metrics is not None:
        add_component_metrics(metrics, components)
        add_connection_metrics(metrics, interface.connections)
        add_process_metrics(metrics, app)
        operations.add_metrics(app, metrics)
    add_fallback(app)
    return app


def _make_metrics() -> "Metrics":
    from server.observability.metrics import Metrics

    return Metrics({EVENT: "session", FALLBACK: "other"})


def mount(host_app: web.Application, settings: Settings, prefix: str = PREFIX) -> web.Application:
    """Add the endpoint to a host application at `{prefix}/vapi/start`; return the sub-application.

    With `PROOF_KEY` the keys of patient proofs are at `{prefix}/jwks.json`. All other paths under
    the prefix remain the host's. Call it before the host application starts.

    Raises ValueError for a prefix that is neither empty nor starts with a slash.
    """
    if prefix and not prefix.startswith("/"):
        raise ValueError("prefix must start with a slash")
    timeouts = RequestTimeouts(settings.session_budget_seconds)
    sub_app = _application(settings, Components(settings), "", timeouts)
    add_exact_subapp(host_app, prefix.rstrip("/") + PATH, sub_app)
    mount_proof_keys(host_app, settings, prefix.rstrip("/"), sub_app.middlewares)
    return sub_app


def _application(
    settings: Settings,
    components: Components,
    path: str,
    timeouts: RequestTimeouts,
    observe: Observer | None = None,
) -> web.Application:
    stack = middleware_stack(settings, components, timeouts, observe)
    app = web.Application(middlewares=[each for scope, each in stack if scope is Where.ALL])
    app.on_response_prepare.append(remove_server_header)
    app.cleanup_ctx.append(lambda _: components.running())
    start: Handler = make_start_handler(
        max_body_bytes=settings.max_body_bytes,
        default_assistant=settings.vapi_assistant_id,
        choose_assistant=make_assistant_choice(settings),
        check_consent=make_consent_check(
            settings.consent_required, in_token=bool(settings.jwt_consent_claim)
        ),
        check_call_limit=components.check_call_limit,
        issue=make_credential_issuer(settings, time),
        issue_proof=make_proof_issuer(settings, time),
        ensure_not_paused=components.ensure_not_paused,
        ensure_available=components.vapi.ensure_available,
        ensure_writable=components.audit_log.ensure_writable,
        is_compressed=receives_compressed_bodies,
        clock=time,
    )
    for scope, middleware in reversed(stack):
        if scope is Where.ENDPOINT:
            start = partial(middleware, handler=start)
    add_route(app, hdrs.METH_POST, path, start, name=EVENT)
    return app


def connection_limits(settings: Settings) -> Limits:
    """Return the limits of the server of `create_app`."""
    return Limits(settings.max_connections, settings.keepalive_seconds)


async def app_factory() -> web.AppRunner:
    """Create the service in a worker of `gunicorn server.app:app_factory`."""
    settings = MASTER.get(status=WORKER_BOOT_ERROR).settings
    configure_logging(settings.log_level, settings.log_format)
    return worker_runner(
        create_app(settings, MASTER.actions),
        connection_limits(settings),
        grace=settings.shutdown_grace_seconds,
        delay=settings.shutdown_delay_seconds,
    )
