"""`python -m server calls`: lists the calls in progress, read from Vapi."""

import argparse
import asyncio
import json
from dataclasses import asdict, dataclass
from time import time
from typing import Final

from aiohttp import ClientSession, DummyCookieJar

from middlewares.audit import patient_name
from middlewares.context import rfc3339
from server.calls.classify import Classified, classify
from server.cli.arguments import fail
from server.config import Settings
from server.config.loader import Configuration
from server.proof import make_proof_verifier
from server.vapi.assistants import assistants_by_name
from server.vapi.call_api import CallApi, CallListError

HELP: Final = "list the calls in progress"

_LONGEST_CALL: Final = 43_200 + 3600
"""Seconds: Vapi's longest call, and a margin for a call that waits."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--json`."""
    parser.add_argument("--json", action="store_true", help="for programs")


def run(configuration: Configuration, arguments: argparse.Namespace) -> int:
    """Print the calls; return 1 when they cannot be read."""
    settings = configuration.settings
    calls = asyncio.run(_read_alone(settings))
    if calls is None:
        return 1
    listed = [_row(settings, each) for each in calls]
    if arguments.json:
        print(json.dumps([asdict(row) for row in listed]))
        return 0
    print(f"{'SINCE':<20} {'PATIENT':<18} {'CALL':<36} FLAGS")
    for row in listed:
        since, patient = row.started_at[:19] + "Z", (row.patient or "-")[:18]
        print(f"{since:<20} {patient:<18} {row.call_id[:36]:<36} {','.join(row.flags)}")
        print(f"{'':<20} assistant {(row.assistant_id or '-')[:48]}")
    return 0


@dataclass(frozen=True, slots=True)
class CallRow:
    """A call as `--json` prints it; `started_at` is RFC 3339, `patient` the id or its HMAC."""

    call_id: str
    patient: str | None
    assistant_id: str | None
    started_at: str
    seconds: int
    flags: list[str]


def _row(settings: Settings, each: Classified) -> CallRow:
    call = each.call
    began = call.created_at if call.started_at is None else call.started_at
    return CallRow(
        call_id=call.id,
        patient=patient_name(each.patient, settings.audit_hash_key),
        assistant_id=call.assistant_id,
        started_at=rfc3339(began),
        seconds=round(call.seconds(time())),
        flags=flags(each),
    )


def flags(each: Classified) -> list[str]:
    """Return what is wrong with a call."""
    found = {
        "unknown": not each.is_known,
        "altered": each.is_altered,
        "reused": each.is_reused,
    }
    return [name for name, is_true in found.items() if is_true]


async def _read_alone(settings: Settings) -> list[Classified] | None:
    async with ClientSession(cookie_jar=DummyCookieJar()) as session:
        return await read_in_progress(settings, session)


async def read_in_progress(settings: Settings, session: ClientSession) -> list[Classified] | None:
    """Return the calls in progress; None, after a message, when they cannot be read."""
    verify = make_proof_verifier(settings)
    if verify is None:
        fail("Calls cannot be told apart: set PROOF_KEY")
        return None
    now = time()
    try:
        listed = await make_call_api(settings).read(session, now - _LONGEST_CALL, now + 60)
    except CallListError as error:
        fail(f"Vapi's calls cannot be read: {error}")
        return None
    if listed.unreadable:
        fail("One call is too large to be read, and is not listed")
    ours = frozenset({settings.vapi_assistant_id, *assistants_by_name(settings).values()} - {""})
    found = classify(listed.calls.values(), verify, ours)
    return [each for each in found if each.call.is_in_progress]


def make_call_api(settings: Settings) -> CallApi:
    """Return the client of Vapi's calls."""
    return CallApi(
        base_url=settings.vapi_base_url,
        api_key=settings.vapi_api_key,
        public_key=settings.vapi_public_api_key,
        allowed=settings.call_overrides,
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which calls to end: one, a patient's, or, with neither, all with a proof of ours."""

    call_id: str | None = None
    patient: str | None = None

    def includes(self, each: Classified) -> bool:
        """Return whether this call is to end."""
        if self.call_id is not None:
            return each.call.id == self.call_id
        if self.patient is not None:
            return each.patient == self.patient
        return each.proof_id is not None


@dataclass(frozen=True, slots=True)
class EndedCall:
    """The patient of a call that was chosen to end, and whether it has ended."""

    patient: str | None
    has_ended: bool


async def end_calls(settings: Settings, selection: Selection) -> list[EndedCall] | None:
    """End calls and print a line for each; return None, after a message, without their list."""
    async with ClientSession(cookie_jar=DummyCookieJar()) as session:
        calls = await read_in_progress(settings, session)
        if calls is None:
            return None
        api = make_call_api(settings)
        chosen = [each for each in calls if selection.includes(each)]
        results = await asyncio.gather(*(api.end(session, each.call) for each in chosen))
    for each, has_ended in zip(chosen, results, strict=True):
        print(f"{each.call.id} {'ended' if has_ended else 'could not be ended'}")
    return [EndedCall(each.patient, result) for each, result in zip(chosen, results, strict=True)]


def exit_status(calls: list[EndedCall] | None) -> int:
    """Return 0 if all calls have been ended, else 1."""
    return 0 if calls is not None and all(each.has_ended for each in calls) else 1
