"""The pause of all sessions: by `SESSIONS_PAUSED`, or through Redis by `python -m server pause`."""

import logging
from math import ceil, inf
from time import time
from typing import Final

import msgspec

from middlewares.context import Clock, rfc3339
from middlewares.errors import ApiError, ErrorCode

log = logging.getLogger(__name__)


PAUSE_KEY: Final = b"{vapi-sessions}:paused"

_MAX_REASON: Final = 500
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: the latest end that can be written as a timestamp."""
_CONFIRMED_SECONDS: Final = 2.0
"""A pause that Redis has just confirmed lasts for this long at least, whatever the clock says."""


class Pause(msgspec.Struct, frozen=True):
    """The value of the pause key: its end in seconds since the epoch, or None, and the reason."""

    until: float | None = None
    reason: str = ""


class SessionPause:
    """Whether sessions are paused: `always`, or by the last answer of Redis.

    A pause with an end ends at that time also while Redis is down. `clock` returns seconds since
    the epoch.
    """

    def __init__(self, *, always: bool, clock: Clock = time) -> None:
        self._always = always
        self._clock = clock
        self._value: bytes | None = None
        self._until: float  # of the pause, when there is a value
        self._lasts_until: float

    def is_paused(self) -> bool:
        """Return whether sessions are paused now."""
        if self._value is not None and self._lasts_until <= self._clock():
            self.record(None)
        return self._always or self._value is not None

    def log_setting(self) -> None:
        """Log that the setting pauses all sessions, if it does."""
        if self._always:
            log.warning("sessions are paused by SESSIONS_PAUSED")

    def ensure_not_paused(self) -> None:
        """Raise `ApiError` VAPI_SESSION_FAILED while sessions are paused.

        `Retry-After` is the time left; a pause without an end has none.
        """
        if not self.is_paused():
            return
        has_end = not self._always and self._until < inf
        wait = max(1, ceil(self._until - self._clock())) if has_end else None
        details = "Voice sessions are paused"
        raise ApiError(ErrorCode.VAPI_SESSION_FAILED, details, retry_after=wait)

    def record(self, value: bytes | None) -> None:
        """Record the value of the pause key, or None without one; log when it has changed."""
        if value != self._value:
            self._change(value)
        if value is not None:
            self._lasts_until = max(self._until, self._clock() + _CONFIRMED_SECONDS)

    def _change(self, value: bytes | None) -> None:
        self._value = value
        if value is None:
            log.info("the pause through Redis has ended")
            return
        pause = decode_pause(value)
        self._until = inf if pause.until is None else pause.until
        end = "without an end" if pause.until is None else f"until {rfc3339(pause.until)}"
        log.warning("sessions are paused through Redis %s: %s", end, pause.reason or "no reason")


def encode_pause(until: float | None, reason: str) -> bytes:
    """Return the value of the pause key."""
    return msgspec.json.encode(Pause(until, _printable(reason)))


def decode_pause(value: bytes) -> Pause:
    """Return the pause of a value; a value of another format is a pause without an end."""
    try:
        pause = msgspec.json.decode(value, type=Pause)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Pause()
    ends = pause.until is not None and 0 <= pause.until <= _LAST_SECOND
    return Pause(pause.until if ends else None, _printable(pause.reason))


def _printable(text: str) -> str:
    """Escape what is not printable: a reason must not forge a line of the log."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:_MAX_REASON])
