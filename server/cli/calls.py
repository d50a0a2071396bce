"""The calls in progress, read from Vapi: `calls` lists them, `end` ends them."""

import asyncio
import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from time import time
from typing import Final

from aiohttp import ClientSession

from middlewares.audit import patient_name
from middlewares.context import rfc3339
from server.admin_actions import admin_record, report
from server.calls.rules import Classified, classify
from server.cli import CommandFailed
from server.config import Settings
from server.config.loader import Configuration
from server.config.sources import printable
from server.http_client import make_session
from server.proof import make_proof_verifier
from server.vapi.assistants import assistants_by_name
from server.vapi.call_api import CallApi, CallListError

_DAY: Final = 86400
"""Seconds by which our clock may be behind Vapi's."""
_LONGEST_CALL: Final = 43_200 + 3600
"""Seconds: Vapi's longest call, and a margin for a call that waits."""


@dataclass(frozen=True, slots=True)
class CallRow:
    """A call as `--json` prints it; `started_at` is RFC 3339, `patient` the id or its HMAC."""

    call_id: str
    patient: str | None
    assistant_id: str | None
    started_at: str
    seconds: int
    flags: list[str]


async def calls(configuration: Configuration, arguments: Namespace) -> int:
    """Print the calls in progress."""
    settings = configuration.settings
    async with make_session(settings) as session:
        rows = [_row(settings, each) for each in await _read_in_progress(settings, session)]
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print("\n".join(_table(rows)))
    return 0


def _table(rows: Sequence[CallRow]) -> Iterator[str]:
    """Yield three lines for each call: an HMAC and a call's id are too long for one."""
    yield f"{'SINCE':<20} CALL"
    yield "  PATIENT"
    yield "  ASSISTANT, FLAGS"
    for row in rows:
        yield f"{row.started_at[:19]}Z {printable(row.call_id)}"
        yield f"  {row.patient or '-'}"
        yield f"  {printable(row.assistant_id or '-')}  {','.join(row.flags) or '-'}"


def _row(settings: Settings, each: Classified) -> CallRow:
    call = each.call
    return CallRow(
        call_id=call.id,
        patient=patient_name(each.patient, settings.audit_hash_key),
        assistant_id=call.assistant_id,
        started_at=rfc3339(call.began_at),
        seconds=round(call.seconds(time())),
        flags=_flags(each),
    )


def _flags(each: Classified) -> list[str]:
    """Return what is wrong with a call."""
    found = {
        "unknown": not each.is_known,
        "altered": each.is_altered,
        "reused": each.is_reused,
    }
    return [name for name, is_true in found.items() if is_true]


async def _read_in_progress(settings: Settings, session: ClientSession) -> list[Classified]:
    """Return the calls in progress. Raises `CommandFailed` when they cannot be read."""
    verify = make_proof_verifier(settings)
    if verify is None:
        raise CommandFailed("Calls cannot be told apart: set PROOF_KEY")
    now = time()
    try:
        listed = await CallApi(settings).read(session, now - _LONGEST_CALL, now + _DAY)
    except CallListError as error:
        raise CommandFailed(f"Vapi's calls cannot be read: {error}") from None
    if listed.unreadable:
        sys.stderr.write("One call is too large to be read, and is not listed\n")
    ours = frozenset({settings.vapi_assistant_id, *assistants_by_name(settings).values()} - {""})
    found = classify(listed.calls.values(), verify, ours)
    return [each for each in found if each.call.is_in_progress]


async def end(configuration: Configuration, arguments: Namespace) -> int:
    """End calls; return 1 when one could not be ended."""
    settings, patient = configuration.settings, arguments.patient
    ended = await end_calls(settings, Selection(arguments.call, patient))
    if arguments.call is not None:
        if not ended:
            print(f"{arguments.call} is not in progress")
        patient = next((each.patient for each in ended), None)
    record = admin_record("end", hash_key=settings.audit_hash_key, patient=patient)
    await report(settings.redis_url, record)
    return exit_status(ended)


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


async def end_calls(settings: Settings, selection: Selection) -> list[EndedCall]:
    """End calls and print a line for each. Raises `CommandFailed` when they cannot be read."""
    async with make_session(settings) as session:
        in_progress = await _read_in_progress(settings, session)
        api = CallApi(settings)
        chosen = [each for each in in_progress if selection.includes(each)]
        results = await asyncio.gather(*(api.end(session, each.call) for each in chosen))
    for each, has_ended in zip(chosen, results, strict=True):
        print(f"{printable(each.call.id)} {'ended' if has_ended else 'could not be ended'}")
    return [EndedCall(each.patient, result) for each, result in zip(chosen, results, strict=True)]


def exit_status(ended: Sequence[EndedCall]) -> int:
    """Return 0 if all calls have been ended, else 1."""
    return 0 if all(each.has_ended for each in ended) else 1
