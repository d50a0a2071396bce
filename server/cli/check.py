"""`python -m server check`: asks everything the service depends on, and says what to do."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from aiohttp import ClientSession

from server.components import Components
from server.config import Settings
from server.config.loader import Configuration
from server.config.proof_key import load_proof_keys
from server.proof.public_jwks import public_jwks
from server.vapi.health import VapiState

HELP: Final = "check the configuration, and that Vapi, the keys and Redis answer"

_GREEN: Final = "\x1b[32m"
_RED: Final = "\x1b[31m"
_PLAIN: Final = "\x1b[0m"

_VAPI_ADVICE: Final = {
    VapiState.OFF: "not asked: VAPI_CHECK_SECONDS is 0",
    VapiState.UP: "knows the assistant, and takes VAPI_API_KEY",
    VapiState.DOWN: "does not answer: look at VAPI_BASE_URL, the network, status.vapi.ai",
    VapiState.MISCONFIGURED: "refuses: look at VAPI_API_KEY and VAPI_ASSISTANT_ID",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--json`."""
    parser.add_argument("--json", action="store_true", help="print a JSON document")


def run(configuration: Configuration, arguments: argparse.Namespace) -> int:
    """Print the findings; return 0, or 1 when something fails."""
    return report(asyncio.run(examine(configuration.settings)), as_json=arguments.json)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part: does it hold, and what that means or asks for."""

    part: str
    ok: bool
    details: str


async def examine(settings: Settings) -> list[Finding]:
    """Ask Vapi, the key source and Redis, each once and in its own time-out."""
    parts = Components(settings)
    findings = [Finding("configuration", ok=True, details="holds")]
    async with ClientSession() as session:
        if parts.vapi.state is not VapiState.OFF:
            parts.vapi.record_status(await parts.vapi.ask(session))
        state = parts.vapi.state
        healthy = state in {VapiState.UP, VapiState.OFF}
        findings.append(Finding("vapi", ok=healthy, details=_VAPI_ADVICE[state]))
        findings.append(await _keys(parts, session))
    findings.append(await _redis(parts))
    if settings.proof_key:
        findings.append(_proof(settings))
    return findings


async def _keys(parts: Components, session: ClientSession) -> Finding:
    if parts.jwks is None:
        return Finding("keys", ok=True, details="stand in the configuration")
    await parts.jwks.fetch_once(session)
    if parts.jwks.state == "ready":
        return Finding("keys", ok=True, details="the JWKS holds keys for JWT_ALGORITHMS")
    advice = "no usable JWKS: look at JWT_JWKS_URL, the network, JWT_ALGORITHMS"
    return Finding("keys", ok=False, details=advice)


async def _redis(parts: Components) -> Finding:
    if parts.redis is None:
        advice = "not used: limits are kept in each process, nothing can be revoked"
        return Finding("redis", ok=True, details=advice)
    await parts.redis.probe()
    await parts.redis.close()
    if parts.redis.is_up:
        return Finding("redis", ok=True, details="answers")
    return Finding("redis", ok=False, details="does not answer: look at REDIS_URL, the network")


def _proof(settings: Settings) -> Finding:
    key_ids = [jwk["kid"] for jwk in public_jwks(load_proof_keys(settings.proof_key))["keys"]]
    details = f"signed with key {key_ids[0]}; keys published: {len(key_ids)}"
    return Finding("proof", ok=True, details=details)


def report(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print what was found, for people or machines; give the exit status: 0, or 1 for a fault."""
    good = all(finding.ok for finding in findings)
    if as_json:
        print(json.dumps({"ok": good, "parts": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            print(_line(finding, colour=sys.stdout.isatty()))
    return 0 if good else 1


def _line(finding: Finding, *, colour: bool) -> str:
    mark = "ok  " if finding.ok else "FAIL"
    if colour:
        mark = f"{_GREEN if finding.ok else _RED}{mark}{_PLAIN}"
    return f"{mark}  {finding.part:<13}  {finding.details}"
