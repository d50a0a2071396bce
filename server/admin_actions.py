"""Lines of the audit log about what operators did: from another process to a serving one."""

import asyncio
import getpass
import logging
import os
import socket
import sys
from contextlib import suppress
from time import time
from typing import Final

import msgspec

from middlewares.audit import patient_name
from middlewares.context import rfc3339
from server.observability.audit_log import MAX_LINE, AuditLog
from server.redis.connection import Execute, RedisDown, RedisFailure, describe, execute_once

log = logging.getLogger(__name__)

ACTIONS_KEY: Final = b"{vapi-sessions}:admin-actions"
MAX_WAITING: Final = 1000
"""The number of lines that wait in Redis; beyond it the oldest is dropped."""

_WAIT_SECONDS: Final = 86400
_POLL_SECONDS: Final = 1.0
_COMMAND_SECONDS: Final = 1.0
_MAX_TEXT: Final = 500
_POP: Final = (b"LPOP", ACTIONS_KEY)
_PUSH: Final = b"""
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], -ARGV[2], -1)
return redis.call('EXPIRE', KEYS[1], ARGV[3])
"""


class AdminRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a line; a field that an action does not have is None.

    `until` is when the action ends (RFC 3339, UTC), `reason` is the operator's text, `changed` has
    the names of settings.
    """

    event: str = "vapi_admin"
    timestamp: str
    action: str
    actor: str
    host: str
    patient: str | None = None
    jti: str | None = None
    until: str | None = None
    reason: str | None = None
    changed: list[str] | None = None


def admin_record(
    action: str,
    *,
    hash_key: bytes = b"",
    patient: str | None = None,
    jti: str | None = None,
    until: float | None = None,
    reason: str | None = None,
    changed: list[str] | None = None,
) -> AdminRecord:
    """Return the record of an action that has just been done by this user on this host.

    With `hash_key` it has the HMAC of the patient id. `until` is in seconds since the epoch.
    """
    return AdminRecord(
        timestamp=rfc3339(time()),
        action=action,
        actor=_actor(),
        host=socket.gethostname(),
        patient=patient_name(patient, hash_key),
        jti=_text(jti),
        until=None if until is None else rfc3339(until),
        reason=_text(reason),
        changed=changed,
    )


def _actor() -> str:
    """Return the user who ran sudo, else the name of the user, else the number."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user without an entry, as in containers
        return str(os.getuid())


def _text(value: str | None) -> str | None:
    """Cut a text, so that every line fits into one write; drop what UTF-8 cannot encode."""
    return None if value is None else value[:_MAX_TEXT].encode(errors="replace").decode()


async def report(redis_url: str, record: AdminRecord) -> None:
    """Write the line to standard error, and hand it to the serving processes if there is Redis.

    The action is done: a Redis that fails now is a warning.
    """
    line = msgspec.json.encode(record)
    sys.stderr.write(f"{line.decode()}\n")
    if not redis_url:
        return
    arguments = (ACTIONS_KEY, line, MAX_WAITING, _WAIT_SECONDS)
    try:
        await execute_once(redis_url, b"EVAL", _PUSH, 1, *arguments)
    except RedisFailure as error:
        log.warning("the audit log does not get this action: Redis failed (%s)", describe(error))


async def write_waiting_actions(execute: Execute, audit_log: AuditLog) -> None:
    """Write the lines that wait in Redis, until cancelled; one process gets each line.

    While the audit log cannot be written, they stay in Redis.
    """
    is_forbidden = False
    while True:
        try:
            while audit_log.state == "up":
                line = await execute(*_POP, seconds=_COMMAND_SECONDS)
                is_forbidden = False
                if line is None:
                    break
                _write(line, audit_log)
        except (RedisDown, *RedisFailure) as error:  # an outage, which the client logs
            if (cause := describe(error)) == "NOPERM" and not is_forbidden:
                log.warning("Redis forbids LPOP (%s): the audit log misses actions", cause)
            is_forbidden = cause == "NOPERM"
        await asyncio.sleep(_POLL_SECONDS)


def _write(line: object, audit_log: AuditLog) -> None:
    """Write a line of Redis, in which others may have written anything."""
    try:
        if not isinstance(line, bytes) or len(line) > MAX_LINE:
            raise msgspec.ValidationError
        record = msgspec.json.decode(line, type=AdminRecord)
    except (msgspec.DecodeError, UnicodeDecodeError):
        log.warning("a line in Redis is not an action of an operator; it was dropped")
        return
    audit_log.write_event(msgspec.structs.replace(record, event="vapi_admin"))


class ActionChannel:
    """Hands records from gunicorn's master to its workers, which inherit it.

    One worker gets each record; the operating system keeps a few while there is none.
    """

    def __init__(self) -> None:
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in ends:
            end.setblocking(False)
        self._receiver, self._sender = (end.detach() for end in ends)

    def send(self, record: AdminRecord) -> None:
        """Send a record; one that finds no place is lost, with a log record."""
        try:
            os.write(self._sender, msgspec.json.encode(record))
        except BlockingIOError:
            log.warning("the audit log does not get this action: no worker takes it")

    async def run(self, audit_log: AuditLog) -> None:
        """Write the records that arrive, until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._receiver, self._read, audit_log)
        try:
            await loop.create_future()
        finally:
            loop.remove_reader(self._receiver)

    def _read(self, audit_log: AuditLog) -> None:
        with suppress(BlockingIOError):  # another worker was faster
            audit_log.write(os.read(self._receiver, MAX_LINE))
