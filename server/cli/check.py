"""`python -m server check`: checks the configuration and everything that the service depends on."""

import json
import re
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import time
from typing import BinaryIO, Final

import msgspec
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession, hdrs
from environs import ValidationError
from yarl import URL

from middlewares.context import rfc3339
from server.cli import CommandFailed
from server.cli.explain import explain
from server.cli.report import Finding, print_report
from server.components import Components
from server.config import Settings
from server.config.keys import load_proof_keys
from server.config.loader import Configuration
from server.config.settings import CallMonitorMode
from server.config.sources import printable
from server.config.validators import secure_url
from server.http_client import FetchError, NothingListensError, fetch, fetch_json, make_session
from server.policies.deployments import find_other_deployments
from server.policies.pause import PAUSE_KEY, decode_pause
from server.proof import public_jwks
from server.redis.client import RedisState
from server.redis.connection import RedisFailure, execute_once
from server.vapi.assistants import Assistant, names_by_id, read_assistants
from server.vapi.health import Status, VapiState, describe_status

_TIMEOUT_SECONDS: Final = 2.0
_MAX_LENGTH: Final = 200
_SOUND: Final = frozenset({"up", "off", "ready"})
_MAX_INPUT_BYTES: Final = 65536
_PREFIX: Final = re.compile(r"(authorization:)?\s*(bearer|dpop)\s+", re.IGNORECASE)
_PROOF_PREFIX: Final = re.compile(r"dpop:\s*", re.IGNORECASE)
_KEYS: Final = ("JWT_SECRET", "JWT_SECRET_PREVIOUS", "JWT_PUBLIC_KEY")
_DISCOVERY: Final = "/.well-known/openid-configuration"
_MAX_CLOCK_SECONDS: Final = 60


def _read_proof(path: str) -> str:
    """Read a DPoP proof from a file. Raises `CommandFailed`."""
    try:
        with Path(path).open("rb") as file:
            return _read(file, _PROOF_PREFIX)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not the path of a file"
        raise CommandFailed(f"The proof of --dpop cannot be read: {reason}") from None


def _read(file: BinaryIO, prefix: re.Pattern[str]) -> str:
    """Read a token without white space around it and without its scheme.

    Reads at most 64 KiB, which is more than the service accepts.
    """
    text = file.read(_MAX_INPUT_BYTES).decode("ascii", "replace")
    return prefix.sub("", text.strip(), count=1)


async def run(configuration: Configuration, arguments: Namespace) -> int:
    """Print the findings; return 0, or 1 when something fails or the token would be refused."""
    settings = configuration.settings
    rules = None
    if arguments.dpop and not arguments.token:
        sys.stderr.write("--dpop needs --token\n")
        return 2
    if arguments.token:
        proof = _read_proof(arguments.dpop) if arguments.dpop else None
        rules = await explain(settings, _read(sys.stdin.buffer, _PREFIX), proof)
    findings, warnings = await examine(settings, arguments.service)
    warnings = [*configuration.warnings, *configuration.advice, *warnings]
    return print_report(findings, warnings, rules, as_json=arguments.json)


async def examine(
    settings: Settings, service: URL | None = None
) -> tuple[list[Finding], list[str]]:
    """Check each part once, with its own time limit; return the findings and the warnings.

    `service` is the address of the running service, in place of the default.
    """
    components, clocks = Components(settings), _Clocks(settings)
    findings = [Finding("configuration", True, "is valid")]
    async with make_session(settings, clocks.observe) as session:
        parts = _Parts(settings, components, session)
        checks = (parts.vapi, parts.keys, parts.redis, parts.paused, parts.calls)
        findings += [await check() for check in checks]
        if settings.proof_key:
            findings.append(parts.proof())
        findings.append(await parts.service(service))
        discovery = await _compare_discovery(settings, session)
    warnings = [*parts.warnings, *await find_other_deployments(settings), *discovery]
    return findings, [*warnings, *clocks.warnings()]


@dataclass(slots=True)
class _Parts:
    """The check of each part; `warnings` are what leaves a part sound."""

    _settings: Settings
    _components: Components
    _session: ClientSession
    warnings: list[str] = field(default_factory=list)

    async def vapi(self) -> Finding:
        if self._components.vapi.state is VapiState.OFF:
            return Finding("vapi", True, "not checked: VAPI_CHECK_SECONDS is 0")
        found = await read_assistants(self._settings, self._session)
        labels = {key: " and ".join(names) for key, names in names_by_id(self._settings).items()}
        named = {labels[key]: each for key, each in found.items()}
        self._warn_of_listeners(named)
        faults = {name: fault for name, each in named.items() if (fault := self._fault_of(each))}
        if faults:
            several = len(found) > 1
            texts = [f"{name}: {fault}" if several else fault for name, fault in faults.items()]
            return Finding("vapi", False, "; ".join(texts))
        exist = "the assistant exists" if len(found) == 1 else f"all {len(found)} assistants exist"
        return Finding("vapi", True, f"200: VAPI_API_KEY is accepted and {exist}")

    def _fault_of(self, found: Assistant | Status) -> str | None:
        if not isinstance(found, Assistant):
            return describe_status(found)
        if self._settings.vapi_org_id in {"", found.org_id} or found.org_id is None:
            return None
        return "VAPI_ORG_ID is not the organization of the assistant (its orgId); compare the two"

    def _warn_of_listeners(self, found: dict[str, Assistant | Status]) -> None:
        names = [
            name
            for name, each in found.items()
            if isinstance(each, Assistant) and each.is_open_to_listeners
        ]
        if names:
            self.warnings.append(
                f"{', '.join(names)}: whoever knows the id of a call can listen to it; set "
                "monitorPlan.listenEnabled to false in Vapi, or listenAuthenticationEnabled to true"
            )

    async def keys(self) -> Finding:
        jwks = self._components.jwks
        if jwks is None:
            given = [name for name in _KEYS if getattr(self._settings, name.lower())]
            return Finding("keys", True, f"{' and '.join(given)} of the configuration")
        await jwks.fetch_once(self._session)
        self.warnings += [f"JWT_JWKS_URL: a key is not used: {key}" for key in jwks.unused]
        if jwks.state == "ready":
            return Finding("keys", True, "JWT_JWKS_URL has keys for JWT_ALGORITHMS")
        advice = "check JWT_JWKS_URL, the network and JWT_ALGORITHMS"
        return Finding("keys", False, f"no usable keys: {jwks.failure}; {advice}")

    async def redis(self) -> Finding:
        redis = self._components.redis
        if redis is None:
            advice = "not used: each process has its own limits, and revocation is not possible"
            return Finding("redis", True, advice)
        await redis.check()
        faults = {
            RedisState.DOWN: f"does not answer ({redis.failure}): check REDIS_URL and the network",
            RedisState.REJECTED: "rejects the credentials of REDIS_URL, or they do not permit MGET",
        }
        if redis.state in faults:
            return Finding("redis", False, faults[redis.state])
        if error := redis.write_error:
            advice = f"answers and cannot be written ({error}), so `revoke` and `pause` fail too"
            return Finding("redis", False, advice)
        return Finding("redis", True, "answers")

    async def paused(self) -> Finding:
        if self._settings.sessions_paused:
            return Finding("paused", False, "SESSIONS_PAUSED is true: all sessions are refused")
        value = None
        try:
            if self._settings.redis_url:
                (value,) = await execute_once(self._settings.redis_url, b"MGET", PAUSE_KEY)
        except RedisFailure:
            return Finding("paused", None, "not known: Redis does not answer")
        if not isinstance(value, bytes):
            return Finding("paused", True, "sessions are not paused")
        pause = decode_pause(value)
        end = "without an end" if pause.until is None else f"until {rfc3339(pause.until)}"
        reason = f" ({pause.reason})" if pause.reason else ""
        details = f"all sessions are refused {end}{reason}; `resume` ends the pause"
        return Finding("paused", False, details)

    async def calls(self) -> Finding:
        if not self._settings.proof_key:
            return Finding("calls", True, "off: PROOF_KEY is not set")
        has_monitor = self._settings.call_monitor != CallMonitorMode.OFF
        if self._components.vapi.state is VapiState.OFF and not has_monitor:
            return Finding("calls", True, "not checked: VAPI_CHECK_SECONDS is 0")
        url = f"{self._settings.vapi_base_url.rstrip('/')}/call?limit=1"
        headers = {hdrs.AUTHORIZATION: f"Bearer {self._settings.vapi_api_key}"}
        seconds, max_bytes = self._settings.vapi_timeout_seconds, 16 * 1024 * 1024
        try:
            status, _ = await fetch(self._session, url, seconds, headers, max_bytes)
        except FetchError as error:
            return Finding("calls", False, f"the list of calls cannot be read: {error}")
        if status == 200:
            return Finding("calls", True, "the list of calls can be read with VAPI_API_KEY")
        return Finding("calls", False, f"the list of calls cannot be read: Vapi answers {status}")

    def proof(self) -> Finding:
        published = public_jwks(load_proof_keys(self._settings.proof_key))["keys"]
        details = f"signed with key {published[0]['kid']}; keys published: {len(published)}"
        return Finding("proof", True, details)

    async def service(self, address: URL | None) -> Finding:
        if address is None and not self._settings.port:
            return Finding("service", None, "not checked: PORT is 0; give --service")
        address = address or URL(f"http://127.0.0.1:{self._settings.port}")
        try:
            status, body = await fetch(self._session, address / "readyz", _TIMEOUT_SECONDS)
            ready = msgspec.json.decode(body, type=_Readiness)
        except NothingListensError:
            return Finding("service", None, "does not run here: nothing listens at its address")
        except FetchError as error:
            return Finding("service", False, f"does not answer: {error}; check --service")
        except (ValueError, RecursionError):
            details = f"status {status}, and not this service's answer; check --service and PORT"
            return Finding("service", False, details)
        unsound = [f"{name} {state}" for name, state in ready.parts.items() if state not in _SOUND]
        details = ": ".join(filter(None, [ready.status, ", ".join(unsound)]))[:_MAX_LENGTH]
        return Finding("service", status == 200 and not unsound, printable(details))


class _Readiness(msgspec.Struct):
    status: str
    parts: dict[str, str]


class _Clocks:
    """How far this machine's clock is from those of Vapi and the identity provider."""

    def __init__(self, settings: Settings) -> None:
        self._names = {URL(settings.vapi_base_url).origin(): "Vapi"}
        if settings.jwt_jwks_url:
            self._names[URL(settings.jwt_jwks_url).origin()] = "the identity provider"
        self._ahead: dict[str, float] = {}

    async def observe(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Read the `Date` of a response; one from a cache has an `Age` since then."""
        response = await handler(request)
        if name := self._names.get(request.url.origin()):
            with suppress(KeyError, ValueError, OverflowError):
                date = parsedate_to_datetime(response.headers[hdrs.DATE]).timestamp()
                self._ahead[name] = time() - date - int(response.headers.get(hdrs.AGE, "0"))
        return response

    def warnings(self) -> list[str]:
        """Return a warning for each clock that differs."""
        return [
            f"the clock: is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {name}'s "
            "(Date), so sound tokens are refused; set the clock, with NTP"
            for name, ahead in self._ahead.items()
            if abs(ahead) > _MAX_CLOCK_SECONDS
        ]


async def _compare_discovery(settings: Settings, session: ClientSession) -> list[str]:
    """Return a warning for each setting that differs, or one if the document cannot be fetched."""
    issuers = settings.jwt_issuer if settings.jwt_jwks_url else ()
    return [text for issuer in issuers for text in await _compare(settings, issuer, session)]


async def _compare(settings: Settings, issuer: str, session: ClientSession) -> list[str]:
    try:
        secure_url(issuer)
        url = issuer.rstrip("/") + _DISCOVERY
        document = await fetch_json(session, url, _TIMEOUT_SECONDS)
    except ValidationError:
        reason = "it is not an https address"
    except FetchError as error:
        reason = str(error)
    else:
        return list(_differences(settings, issuer, document))
    return [f"JWT_ISSUER: its discovery document cannot be fetched ({reason}); not compared"]


def _differences(settings: Settings, issuer: str, document: object) -> Iterator[str]:
    members = document if isinstance(document, dict) else {}
    expected = (
        ("JWT_ISSUER", "issuer", issuer),
        ("JWT_JWKS_URL", "jwks_uri", settings.jwt_jwks_url),
    )
    for name, member, configured in expected:
        value = members.get(member)
        if value != configured:
            shown = json.dumps(value)[:_MAX_LENGTH] if isinstance(value, str) else "no text"
            yield f"{name}: differs from {member} in the issuer's discovery document: {shown}"
