"""Access, through Redis: `revoke`, `unrevoke`, `revocations`, `pause`, `resume`."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from math import ceil
from time import time
from typing import Final

from middlewares.context import rfc3339
from server.admin_actions import admin_record, report
from server.auth.claims import parse_patient_id
from server.cli import CommandFailed
from server.cli.calls import Selection, end_calls, exit_status
from server.config import Settings
from server.config.loader import Configuration
from server.policies import revocations as revocation_list
from server.policies.pause import PAUSE_KEY, encode_pause
from server.policies.revocations import (
    Revocation,
    list_revocations,
    make_patient_names,
    token_entry,
)
from server.redis.connection import RedisFailure, describe, execute_once

_DEFAULT_SECONDS: Final = 366 * 86400


async def revoke(configuration: Configuration, arguments: Namespace) -> int:
    """Revoke, and print for how long; return 1 when a call could not be ended."""
    settings, jti, patient = configuration.settings, arguments.jti, arguments.patient
    if arguments.end_calls and patient is None:
        sys.stderr.write("--end-calls needs --patient\n")
        return 2
    seconds = arguments.seconds or _longest_lifetime(settings)
    with _redis_of(settings, "revoked", "where the service looks revocations up"):
        entry = _entries(settings, jti, patient, "revoked")[0]
        await revocation_list.revoke(settings.redis_url, entry, seconds)
    print(f"revoked for {seconds} seconds")
    hash_key, until = settings.audit_hash_key, time() + seconds
    record = admin_record("revoke", hash_key=hash_key, patient=patient, jti=jti, until=until)
    await report(settings.redis_url, record)
    if not arguments.end_calls:
        return 0
    return exit_status(await end_calls(settings, Selection(patient=patient)))


def _longest_lifetime(settings: Settings) -> int:
    """Return the seconds for which a token that exists today can still be valid."""
    if not settings.jwt_max_lifetime_seconds:
        return _DEFAULT_SECONDS
    # The leeway counts twice: iat may be that far in the future, and exp that far in the past.
    return ceil(settings.jwt_max_lifetime_seconds + 2 * settings.jwt_leeway_seconds)


async def unrevoke(configuration: Configuration, arguments: Namespace) -> int:
    """Lift a revocation, if there is one."""
    settings, jti, patient = configuration.settings, arguments.jti, arguments.patient
    with _redis_of(settings, "changed", "where the service looks revocations up"):
        entries = _entries(settings, jti, patient, "changed")
        lifted = await revocation_list.unrevoke(settings.redis_url, entries)
    print("no longer revoked" if lifted else "there was no revocation")
    record = admin_record("unrevoke", hash_key=settings.audit_hash_key, patient=patient, jti=jti)
    await report(settings.redis_url, record)
    return 0


def _entries(settings: Settings, jti: str | None, patient: str | None, done: str) -> list[bytes]:
    """Return the entries of a token or a patient, that of new revocations first."""
    if jti == "":
        raise CommandFailed(f"Nothing was {done}: a token id cannot be empty")
    if jti is not None:
        return [token_entry(jti)]
    if patient is None or parse_patient_id(patient) is None:
        raise CommandFailed(f"Nothing was {done}: this is not a valid patient id")
    return make_patient_names(settings).all(patient)


async def revocations(configuration: Configuration, arguments: Namespace) -> int:
    """Print what is revoked, and until when."""
    settings = configuration.settings
    with _redis_of(settings, "listed", "where the service looks revocations up"):
        found = [each async for each in list_revocations(settings.redis_url)]
    if arguments.json:
        print(json.dumps([{**asdict(each), "until": rfc3339(each.until)} for each in found]))
        return 0
    for each in found:
        print(_line(each))
    if not found:
        print("nothing is revoked")
    return 0


def _line(revocation: Revocation) -> str:
    """Return a line; what is not printable is escaped, since it could forge another line."""
    if revocation.jti is None:
        return f"until {rfc3339(revocation.until)}  patient {revocation.patient}"
    name = revocation.jti if revocation.jti.isprintable() else json.dumps(revocation.jti)
    return f"until {rfc3339(revocation.until)}  token {name}"


async def pause(configuration: Configuration, arguments: Namespace) -> int:
    """Pause, and print for how long; return 1 when a call could not be ended."""
    settings, seconds = configuration.settings, arguments.seconds
    until = time() + seconds if seconds else None
    value = encode_pause(until, arguments.reason)
    expiry = (b"EX", seconds) if seconds else ()
    with _redis_of(settings, "paused", "or SESSIONS_PAUSED=true and restart"):
        await execute_once(settings.redis_url, b"SET", PAUSE_KEY, value, *expiry)
    print(f"paused for {seconds} seconds" if seconds else "paused until `resume`")
    record = admin_record("pause", until=until, reason=arguments.reason or None)
    await report(settings.redis_url, record)
    return exit_status(await end_calls(settings, Selection())) if arguments.end_calls else 0


async def resume(configuration: Configuration, _: Namespace) -> int:
    """End the pause, if there is one."""
    settings = configuration.settings
    with _redis_of(settings, "resumed", "through which sessions are paused"):
        removed = await execute_once(settings.redis_url, b"DEL", PAUSE_KEY)
    print("resumed" if removed else "there was no pause")
    if settings.sessions_paused:
        print("sessions stay paused: SESSIONS_PAUSED is true")
    await report(settings.redis_url, admin_record("resume"))
    return 0


@contextmanager
def _redis_of(settings: Settings, done: str, why: str) -> Iterator[None]:
    """Run a block that uses Redis. Raises `CommandFailed` without REDIS_URL, and when it fails."""
    if not settings.redis_url:
        raise CommandFailed(f"Nothing was {done}: set REDIS_URL, {why}")
    try:
        yield
    except RedisFailure as error:
        text = f"Nothing was {done}: Redis failed ({describe(error)}); check REDIS_URL"
        raise CommandFailed(text) from None
