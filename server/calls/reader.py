"""The calls of the last 24 hours, as Vapi lists them: read at intervals, and kept in memory."""

from collections.abc import Collection, Iterable
from math import inf
from time import time
from typing import Final

from aiohttp import ClientSession

from server.calls.rules import DAY_SECONDS
from server.vapi.call_api import CallApi, CallList
from server.vapi.web_call import UnreadableCall, WebCall

_OVERLAP_SECONDS: Final = 120
_MAX_LAG_SECONDS: Final = 900
"""How late a call may appear in the list."""
_MAX_CALLS: Final = 50_000
_STALE_READINGS: Final = 6
_MAX_REFRESHED: Final = 5
_MAX_MISSES: Final = 5


class CallReader:
    """Keeps the calls by id; `unreadable` are those that cannot be read.

    Vapi may change a call without a new `updatedAt`. So calls in progress that were not in the list
    for six readings are read again, a few each time; one that is not found any more is forgotten.
    """

    def __init__(self, api: CallApi) -> None:
        self._api = api
        self.calls: dict[str, WebCall] = {}
        self.unreadable: list[UnreadableCall] = []
        self.first_reading = 0.0
        """The time by Vapi of the first reading, 0 before: what it saw was created before it."""
        self.offset = 0.0
        """By how many seconds Vapi's clock is ahead of ours."""
        self._read_at = 0.0
        self._newest = 0.0
        self._readings = 0
        self._seen: dict[str, int] = {}
        self._misses: dict[str, int] = {}

    def now(self) -> float:
        """Return the time by Vapi, in seconds since the epoch."""
        return time() + self.offset

    async def read(self, session: ClientSession, urgent: Collection[str] = ()) -> None:
        """Read what has changed; `urgent` are calls to read again. Raises `CallListError`."""
        began = time()
        since = self._since(began + self.offset)
        until = began + self.offset + DAY_SECONDS
        listed = await self._api.read(session, since, until, skip=self.unreadable)
        self._readings += 1
        self._read_at = began + self.offset
        self.offset = listed.date - time()
        self._add(listed)
        if not self.first_reading:
            self.first_reading = self._first_bound(listed)
        for call in self._stale(urgent):
            await self._refresh(session, call)
        self._forget_old()

    def _since(self, now: float) -> float:
        """Return where to begin: earlier when calls appear late in the list."""
        if not self.first_reading:
            return now - DAY_SECONDS
        late = max(self._newest - _OVERLAP_SECONDS, self._read_at - _MAX_LAG_SECONDS)
        return min(late, self._read_at - _OVERLAP_SECONDS)

    def _first_bound(self, listed: CallList) -> float:
        """Return Vapi's date, which has whole seconds, or the creation of a newer call."""
        created = (each.created_at for each in listed.calls.values())
        return max(listed.date, *(each for each in created if each <= listed.date + 1), 0)

    def _add(self, listed: CallList) -> None:
        for call in listed.calls.values():
            known = self.calls.get(call.id)
            if known is None or known.is_in_progress or not call.is_in_progress:
                self.calls[call.id] = call
            self._seen[call.id] = self._readings
            self._misses.pop(call.id, None)
            self._newest = max(self._newest, min(call.updated_at, self.now()))
        self.unreadable += [each for each in listed.unreadable if each not in self.unreadable]

    def _stale(self, urgent: Collection[str]) -> list[WebCall]:
        """Return the calls in progress to read again, those first that were not read for long."""
        stale = [
            call
            for call in self.calls.values()
            if call.is_in_progress
            and self._seen[call.id] < self._readings
            and (call.id in urgent or self._readings - self._seen[call.id] >= _STALE_READINGS)
        ]
        stale.sort(key=lambda call: (call.id not in urgent, self._seen[call.id]))
        return stale[:_MAX_REFRESHED]

    async def _refresh(self, session: ClientSession, call: WebCall) -> None:
        """Read the moment in which a call has changed last."""
        misses = self._misses.get(call.id, 0) + 1
        moment = 0.001
        self._add(await self._api.read(session, call.updated_at - moment, call.updated_at + moment))
        if self._seen[call.id] == self._readings:
            return
        self._seen[call.id] = self._readings
        self._misses[call.id] = misses
        if misses >= _MAX_MISSES:
            self._drop([call.id])

    def _forget_old(self) -> None:
        """Forget what ended, or was created and has not ended, more than 24 hours ago.

        Beyond `_MAX_CALLS` those are forgotten that ended first.
        """
        calls, since = self.calls.values(), self.now() - DAY_SECONDS
        ends = sorted(call.last_moment(inf) for call in calls)
        kept_since = ends[-_MAX_CALLS:][0] if ends else 0.0
        self._drop(
            [
                call.id
                for call in calls
                if call.last_moment(call.created_at) < since or call.last_moment(inf) < kept_since
            ]
        )
        self.unreadable = [each for each in self.unreadable if (each.updated or 0) >= since * 1000]

    def _drop(self, call_ids: Iterable[str]) -> None:
        for call_id in call_ids:
            del self.calls[call_id], self._seen[call_id]
            self._misses.pop(call_id, None)
