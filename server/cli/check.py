"""`python -m server check`: checks the configuration and everything that the service depends on."""

import argparse
import asyncio
import json
from collections.abc import Iterator
from typing import Final

from aiohttp import ClientSession
from environs import ValidationError

from server.cli.explain import explain, read_token
from server.cli.report import Finding, print_report
from server.components import Components
from server.config import Settings
from server.config.keys import load_proof_keys
from server.config.loader import Configuration
from server.config.validators import secure_url
from server.http_client import FetchError, fetch_json, make_session
from server.proof import public_jwks
from server.redis.client import RedisState
from server.vapi.assistants import names_by_id
from server.vapi.health import VapiState, describe_status

"""ANSI codes (ECMA-48 SGR): green, red, yellow, faint."""


_PATH: Final = "/.well-known/openid-configuration"
_TIMEOUT_SECONDS: Final = 2.0
_MAX_LENGTH: Final = 200


async def compare_discovery(settings: Settings, session: ClientSession) -> list[str]:
    """Return a warning for each setting that differs, or one if the document cannot be fetched."""
    if not settings.jwt_jwks_url:
        return []
    found = [await _compare(settings, issuer, session) for issuer in settings.jwt_issuer]
    return [warning for warnings in found for warning in warnings]


async def _compare(settings: Settings, issuer: str, session: ClientSession) -> list[str]:
    try:
        secure_url(issuer)
        url = issuer.rstrip("/") + _PATH
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


HELP: Final = "check the configuration, and that Vapi, the keys and Redis answer"

_REDIS_ADVICE: Final = {
    RedisState.UP: "answers",
    RedisState.DOWN: "does not answer: check REDIS_URL and the network",
    RedisState.REJECTED: "rejects the credentials of REDIS_URL, or they do not permit MGET",
}
_KEYS: Final = ("JWT_SECRET", "JWT_SECRET_PREVIOUS", "JWT_PUBLIC_KEY")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--json` and `--token`."""
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.add_argument(
        "--token",
        metavar="-",
        type=_standard_input,
        help="explain rule by rule whether a patient token is accepted; it is read from standard "
        "input, because arguments are visible to other processes",
    )


def _standard_input(text: str) -> str:
    if text != "-":  # the message must not repeat what may be a token
        raise argparse.ArgumentTypeError("give - and write the token to standard input")
    return text


def run(configuration: Configuration, arguments: argparse.Namespace) -> int:
    """Print the findings; return 0, or 1 when something fails or the token would be refused."""
    settings = configuration.settings
    if arguments.token:
        findings, warnings, kind = asyncio.run(explain(settings, read_token())), [], "rule"
    else:
        findings, warnings, kind = *asyncio.run(examine(settings)), "part"
    warnings = [*configuration.warnings, *configuration.advice, *warnings]
    return print_report(findings, kind=kind, warnings=warnings, as_json=arguments.json)


async def examine(settings: Settings) -> tuple[list[Finding], list[str]]:
    """Check each part once, with its own time limit; return the findings and the warnings."""
    components = Components(settings)
    findings = [Finding("configuration", True, "is valid")]
    async with make_session(settings) as session:
        findings.append(await _check_vapi(settings, components, session))
        findings.append(await _check_keys(settings, components, session))
        warnings = await compare_discovery(settings, session)
    if components.jwks is not None:
        unused = components.jwks.unused
        warnings += [f"JWT_JWKS_URL: a key is not used: {key}" for key in unused]
    findings.append(await _check_redis(components))
    if settings.proof_key:
        findings.append(_check_proof(settings))
    return findings, warnings


async def _check_vapi(
    settings: Settings, components: Components, session: ClientSession
) -> Finding:
    if components.vapi.state is VapiState.OFF:
        return Finding("vapi", True, "not checked: VAPI_CHECK_SECONDS is 0")
    statuses = await components.vapi.fetch_statuses(session)
    if len(statuses) == 1:
        (status,) = statuses.values()
        return Finding("vapi", status == 200, describe_status(status))
    failing = [
        f"{' and '.join(names)}: {describe_status(statuses[assistant_id])}"
        for assistant_id, names in names_by_id(settings).items()
        if statuses[assistant_id] != 200
    ]
    sound = f"200: VAPI_API_KEY is accepted and all {len(statuses)} assistants exist"
    return Finding("vapi", not failing, "; ".join(failing) or sound)


async def _check_keys(
    settings: Settings, components: Components, session: ClientSession
) -> Finding:
    if components.jwks is None:
        given = [name for name in _KEYS if getattr(settings, name.lower())]
        return Finding("keys", True, f"{' and '.join(given)} of the configuration")
    await components.jwks.fetch_once(session)
    if components.jwks.state == "ready":
        return Finding("keys", True, "JWT_JWKS_URL has keys for JWT_ALGORITHMS")
    advice = "no usable keys: check JWT_JWKS_URL, the network and JWT_ALGORITHMS"
    return Finding("keys", False, advice)


async def _check_redis(components: Components) -> Finding:
    if components.redis is None:
        advice = "not used: each process has its own limits, and revocation is not possible"
        return Finding("redis", True, advice)
    await components.redis.check()
    if error := components.redis.write_error:
        advice = f"answers and cannot be written ({error}), so `revoke` and `pause` fail too"
        return Finding("redis", False, advice)
    state = components.redis.state
    return Finding("redis", state is RedisState.UP, _REDIS_ADVICE[state])


def _check_proof(settings: Settings) -> Finding:
    key_ids = [jwk["kid"] for jwk in public_jwks(load_proof_keys(settings.proof_key))["keys"]]
    details = f"signed with key {key_ids[0]}; keys published: {len(key_ids)}"
    return Finding("proof", True, details)
