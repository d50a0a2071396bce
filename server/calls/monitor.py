"""The call monitor: one of the processes reads Vapi's calls at intervals and judges them."""

import asyncio
import ctypes
import logging
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from time import monotonic, time
from typing import TYPE_CHECKING, Final, cast

import msgspec
from aiohttp import ClientSession

from server.calls.judge import Judge, MonitorNumbers
from server.calls.rules import View
from server.config import Settings
from server.config.settings import CallMonitorMode
from server.http_client import make_session, retry_delay
from server.policies.call_limits import CallLimits, CallState, Lease, SharedCalls, Snapshot
from server.policies.revocations import RevocationList, make_patient_names
from server.proof import VerifyProof, make_proof_verifier
from server.redis.client import READ_ONLY, RedisClient
from server.redis.connection import RedisDown, RedisError, RedisReplyError, describe
from server.vapi.call_api import CallApi, CallListError

if TYPE_CHECKING:
    from server.observability.metrics import Metrics

log = logging.getLogger(__name__)

_REDIS_FAILURES: Final = (RedisDown, RedisError, TimeoutError)
_LEASE_INTERVALS: Final = 3
_LONGEST_POLL_SECONDS: Final = 2.0
_CURRENT_INTERVALS: Final = 5
_CURRENT_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 300.0
_PR_SET_DUMPABLE: Final = 4


class CallMonitor:
    """Runs in every process; the one that holds a lease in Redis reads and judges.

    It publishes to `limits` what sessions need, and shares that with the other processes. Without
    Redis this process is the only one. `write` takes the events.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        limits: CallLimits,
        write: Callable[[msgspec.Struct], None],
        redis: RedisClient | None,
        revocations: RevocationList | None,
    ) -> None:
        self.state = "degraded"
        """`up` while calls are read, else `degraded`."""
        self.numbers = MonitorNumbers()
        self._settings = settings
        self._interval = settings.call_monitor_seconds
        self._poll = min(self._interval / 2, _LONGEST_POLL_SECONDS)
        self._limits = limits
        self._write = write
        self._names = make_patient_names(settings)
        self._revocations = revocations
        self._shared = SharedCalls(redis) if redis else None
        seconds = _LEASE_INTERVALS * self._interval
        self._lease = Lease(redis, seconds) if redis else None
        self._rate_limited = 0
        self._is_told = False
        self._is_refused = False

    def add_metrics(self, metrics: "Metrics") -> None:
        """Add the numbers of the monitor; only the reading process has calls."""
        numbers = self.numbers
        text = "Calls in progress that concern this service."
        metrics.add_gauge("calls_in_progress", text, lambda: numbers.in_progress, across="livemax")
        text = "Calls that should end and cannot be ended."
        metrics.add_gauge("calls_unendable", text, lambda: numbers.unendable, across="livemax")
        text = "1 while calls are not ended because no known, unaltered call was seen, else 0."
        metrics.add_gauge("calls_held_back", text, lambda: numbers.is_held_back, across="livemax")
        text = "1 while Vapi's calls are read, else 0."
        metrics.add_gauge("call_monitor_up", text, lambda: self.state == "up", across="livemin")
        text = "Calls that broke a rule, by rule."
        metrics.add_counters("calls_flagged", text, "rule", lambda: numbers.flagged)
        text = "Calls that the monitor ended, by rule."
        metrics.add_counters("calls_ended", text, "rule", lambda: numbers.ended)
        text = "Readings of Vapi's list of calls."
        metrics.add_counter("call_readings", text, lambda: numbers.readings)
        text = "Readings that failed."
        metrics.add_counter("call_reading_failures", text, lambda: numbers.failures)

    async def run(self) -> None:
        """Run until cancelled."""
        forbid_core_dumps()
        if self._lease is not None:
            try:
                await self._take_turns(self._lease)
            finally:
                with suppress(*_REDIS_FAILURES):
                    await self._lease.release()
        await self._lead()

    async def _take_turns(self, lease: Lease) -> None:
        """Read while this process holds the lease, else follow the one that does."""
        while True:
            if await self._holds(lease, otherwise=False):
                async with asyncio.TaskGroup() as tasks:
                    leading = tasks.create_task(self._lead())
                    while await self._holds(lease, otherwise=True):  # noqa: ASYNC110  Redis tells
                        await asyncio.sleep(self._poll)
                    leading.cancel()
            await self._follow()
            await asyncio.sleep(self._poll)

    async def _holds(self, lease: Lease, *, otherwise: bool) -> bool:
        """Prolong the lease; return whether it is held, or `otherwise` while Redis fails."""
        try:
            return await lease.hold()
        except _REDIS_FAILURES as error:
            self._record_redis_failure(error)
            return otherwise

    async def _follow(self) -> None:
        """Take over the state that the reading process has published."""
        try:
            snapshot = await self._shared.load() if self._shared else None
        except _REDIS_FAILURES as error:
            self._record_redis_failure(error)
            return
        if snapshot is None:
            return
        self._limits.state, self.state = snapshot.state, "up"
        oldest = time() - _CURRENT_INTERVALS * self._interval - _CURRENT_SECONDS
        if snapshot.state.stands_still or snapshot.at < oldest:
            self._stand_still()

    def _record_redis_failure(self, error: Exception) -> None:
        """Let minutes stand still; log what only the monitor sees, the client logs an outage."""
        self._stand_still()
        if not isinstance(error, RedisReplyError) or describe(error) == READ_ONLY:
            return
        if not self._is_refused:
            text = "Redis rejects what the call monitor needs (%s): minutes stand still"
            log.warning(text, describe(error))
        self._is_refused = True

    def _stand_still(self) -> None:
        self.state = "degraded"
        self._limits.state = msgspec.structs.replace(self._limits.state, stands_still=True)

    async def _lead(self) -> None:
        """Read and judge at each interval, until cancelled."""
        async with make_session(self._settings) as reading, make_session(self._settings) as ending:
            judge = self._make_judge(ending)
            try:
                while True:
                    began = monotonic()
                    pause = await self._turn(judge, reading)
                    await asyncio.sleep(max(pause, began + self._interval - monotonic(), 0))
            finally:
                await judge.endings.stop()

    def _make_judge(self, session: ClientSession) -> Judge:
        return Judge(
            self._settings,
            cast("VerifyProof", make_proof_verifier(self._settings)),  # PROOF_KEY is required
            api=CallApi(self._settings),
            session=session,
            write=self._write,
            numbers=self.numbers,
            may_act=self._may_act,
        )

    async def _may_act(self) -> bool:
        """Return whether this process holds the lease: after it was stopped, by asking Redis."""
        if self._lease is None or self._lease.is_held:
            return True
        return await self._holds(self._lease, otherwise=False)

    async def _turn(self, judge: Judge, session: ClientSession) -> float:
        """Read and judge once; return the least seconds until the next time."""
        try:
            if not await self._may_act():
                return 0
            self.numbers.readings += 1
            await judge.reader.read(session, judge.endings.accepted)
            if await self._may_act():  # reading may have taken long
                await self._judge_and_publish(judge)
        except CallListError as error:
            return await self._record_failure(error)
        except _REDIS_FAILURES as error:
            self.numbers.failures += 1
            self._record_redis_failure(error)
            return 0
        self._record_success()
        return 0

    async def _judge_and_publish(self, judge: Judge) -> None:
        calls = await judge.look()
        revoked: set[str] = set()
        if self._revocations is not None:
            revoked = await self._revocations.find_revoked(judge.patients(calls))
        first_reading = judge.reader.first_reading
        if self._shared is not None:
            first_reading = await self._shared.first_reading(first_reading)
        view = await judge.judge(calls, revoked, first_reading)
        self._limits.state = self._state(view, judge)
        await self._publish()

    def _state(self, view: View, judge: Judge) -> CallState:
        """Return what sessions need: nothing while calls are only reported."""
        if self._settings.call_monitor != CallMonitorMode.ENFORCE:
            return CallState()
        offset = judge.reader.offset
        return CallState(
            used_up={self._name(each): at - offset for each, at in view.used_up().items()},
            unendable=frozenset(
                self._name(each.patient)
                for each in judge.endings.unendable
                if each.patient is not None
            ),
        )

    def _name(self, patient: str) -> str:
        return self._names.current(patient).decode()

    async def _publish(self) -> None:
        if self._shared is not None:
            await self._shared.publish(Snapshot(self._limits.state, time()))

    async def _record_failure(self, error: CallListError) -> float:
        """Let minutes stand still in all processes; return how long to wait at least."""
        self.numbers.failures += 1
        self._stand_still()
        if not self._is_told:
            log.warning(
                "Vapi's calls cannot be read (%s): sessions go on, minutes stand still", error
            )
        self._is_told = True
        with suppress(*_REDIS_FAILURES):
            await self._publish()
        if error.status != HTTPStatus.TOO_MANY_REQUESTS:
            return 0
        self._rate_limited += 1
        longest = max(self._interval, _LONGEST_PAUSE_SECONDS)
        return max(error.retry_after, retry_delay(self._rate_limited, longest=longest))

    def _record_success(self) -> None:
        self.state = "up"
        self._is_refused = False
        self._rate_limited = 0
        if self._is_told:
            log.info("Vapi's calls are read again")
        self._is_told = False


def forbid_core_dumps() -> None:
    """Keep transcripts, which pass through this process, out of core dumps (prctl(2), Linux)."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
