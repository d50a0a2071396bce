"""Vapi's health for each assistant, checked in the background so that no request waits for Vapi."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from http import HTTPStatus
from math import ceil, inf
from time import monotonic
from typing import Final
from urllib.parse import quote

from aiohttp import ClientError, ClientSession, ClientTimeout, hdrs
from yarl import URL

from middlewares.errors import ApiError, ErrorCode
from server.http_client import describe_failure, retry_delay

log = logging.getLogger(__name__)

_ADVICE: Final = {
    400: "VAPI_ASSISTANT_ID is malformed; copy the UUID of an assistant that VAPI_API_KEY may use",
    401: "VAPI_API_KEY is rejected; copy the private key, not the public one, from the dashboard",
    403: "VAPI_API_KEY has no access to the assistant; use a private key without restrictions",
    404: "VAPI_ASSISTANT_ID is unknown in the organization of VAPI_API_KEY; compare the two",
    429: "Vapi limits requests of this organization; wait, or raise VAPI_CHECK_SECONDS",
}


Status = int | str
"""The status of Vapi's answer, or why there is none."""


def describe_status(status: Status) -> str:
    """Return the status, other than 200, and what to do."""
    if isinstance(status, str):
        advice = "check VAPI_BASE_URL, the network and status.vapi.ai"
        return f"no answer: {status}; {advice}"
    if status in _ADVICE:
        return f"{status}: {_ADVICE[status]}"
    if status < 500:
        return f"{status}: this is not Vapi's API; check VAPI_BASE_URL, and any proxy before it"
    return f"{status}: Vapi fails; see status.vapi.ai"


def assistant_url(base_url: str, assistant_id: str) -> URL:
    """Return the address of an assistant at Vapi."""
    path = f"{base_url.rstrip('/')}/assistant/{quote(assistant_id, safe='')}"
    return URL(path, encoded=True)


_REJECTED: Final = frozenset({400, 401, 403, 404})
"""Statuses that mean a wrong key or assistant id: waiting does not help."""


class VapiState(StrEnum):
    """The state of Vapi: `unknown` before the first verdict, `off` when it is not checked.

    It is `degraded` when one of several assistants is not up.
    """

    OFF = "off"
    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    DEGRADED = "degraded"
    MISCONFIGURED = "misconfigured"


_SERVING: Final = (VapiState.UP, VapiState.OFF)


class VapiHealthMonitor:
    """Requests the assistant every `interval` seconds (0: never), within `timeout` seconds.

    Only the status line is used: the body contains the assistant's prompt and is never read.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        assistant_id: str,
        interval: float,
        timeout: float,
        label: str = "",
    ) -> None:
        """`label` precedes each log message."""
        self._url = assistant_url(base_url, assistant_id)
        self._headers = {hdrs.AUTHORIZATION: f"Bearer {api_key}"}
        self._label = label
        self._interval = interval
        self._timeout = ClientTimeout(total=timeout)
        self.state = VapiState.UNKNOWN if interval else VapiState.OFF
        self.has_verdict = self.state is VapiState.OFF
        """Whether Vapi has been up or down once; never before it accepts key and assistant."""
        self._failures = 0
        self._next_check = 0.0
        self._has_status = asyncio.Event()

    async def ensure_available(self) -> None:
        """Return when sessions can be served; before the first verdict, wait for it.

        Raises `ApiError` VAPI_SESSION_FAILED while Vapi is down or rejects our key or assistant.
        """
        if self.state is VapiState.UNKNOWN:
            await self._has_status.wait()
        if self.state is VapiState.MISCONFIGURED:
            raise ApiError(ErrorCode.VAPI_SESSION_FAILED, "Vapi configuration rejected")
        if self.state is VapiState.DOWN:
            wait = max(1, ceil(self._next_check - monotonic()))
            details = "Vapi service temporarily unavailable"
            raise ApiError(ErrorCode.VAPI_SESSION_FAILED, details, retry_after=wait)

    async def run(
        self, session: ClientSession, queue: "CheckQueue | None" = None, first_delay: float = inf
    ) -> None:
        """Check until cancelled; with a queue, wait there for each turn.

        After the first check the delay is at most `first_delay` seconds.
        """
        while self.state is not VapiState.OFF:
            delay = min(self.record_status(await self._check(session, queue)), first_delay)
            first_delay = inf
            self._next_check = monotonic() + delay
            await asyncio.sleep(delay)

    async def _check(self, session: ClientSession, queue: "CheckQueue | None") -> Status:
        if queue is None:
            return await self.fetch_status(session)
        async with queue.turn(self):
            status = await self.fetch_status(session)
        queue.record(status)
        return status

    async def fetch_status(self, session: ClientSession) -> Status:
        """Return the status that Vapi answers one request with, or why there is no answer."""
        try:
            async with session.get(
                self._url, headers=self._headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                response.close()
                return response.status
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            return describe_failure(error)

    def record_status(self, status: Status) -> float:
        """Set the state by one answer; return the seconds until the next check."""
        if status == 200:
            self._failures = 0
            self._transition(VapiState.UP, logging.INFO, "Vapi is up: sessions are served")
            return self._interval
        if status in _REJECTED:
            self._failures = 0
            text = f"sessions are refused: Vapi answers {describe_status(status)}"
            self._transition(VapiState.MISCONFIGURED, logging.ERROR, text)
            return self._interval
        self._failures += 1
        if self.state is not VapiState.UP or self._failures > 1:
            text = f"sessions are refused: Vapi is down ({describe_status(status)})"
            self._transition(VapiState.DOWN, logging.ERROR, text)
        return retry_delay(self._failures, longest=self._interval)

    def _transition(self, state: VapiState, level: int, text: str) -> None:
        if state is not self.state:
            self.state = state
            log.log(level, "%s%s", self._label, text)
        self.has_verdict = self.has_verdict or state is not VapiState.MISCONFIGURED
        self._has_status.set()


MAX_OPEN_CHECKS: Final = 8


class CheckQueue:
    """Limits how many checks are open at once, and waits after Vapi answers 429.

    `longest` is the longest wait after a 429, in seconds.
    """

    def __init__(self, *, longest: float) -> None:
        self._free = MAX_OPEN_CHECKS
        self._waiting: OrderedDict[VapiHealthMonitor, asyncio.Future[None]] = OrderedDict()
        self._longest = longest
        self._limited = 0
        self._not_before = 0.0

    def hurry(self, monitor: VapiHealthMonitor) -> None:
        """Let a monitor that waits have the next turn."""
        if monitor in self._waiting:
            self._waiting.move_to_end(monitor, last=False)

    @asynccontextmanager
    async def turn(self, monitor: VapiHealthMonitor) -> AsyncIterator[None]:
        """Wait until a check may be sent."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(monitor)
        try:
            await asyncio.sleep(max(0, self._not_before - monotonic()))
            yield
        finally:
            self._release()

    async def _wait(self, monitor: VapiHealthMonitor) -> None:
        turn = self._waiting[monitor] = asyncio.get_running_loop().create_future()
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(monitor, None)
            if not turn.cancelled():  # the turn had been given already
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            _, turn = self._waiting.popitem(last=False)
            if not turn.done():  # its monitor is not being cancelled
                turn.set_result(None)
                return
        self._free += 1

    def record(self, status: Status) -> None:
        """Wait longer after each 429; answers to checks that were open then do not count."""
        if status != HTTPStatus.TOO_MANY_REQUESTS:
            self._limited = 0
        elif self._not_before <= monotonic():
            self._limited += 1
            self._not_before = monotonic() + retry_delay(self._limited, longest=self._longest)


class VapiHealth:
    """The monitors of all assistants. Several share a queue, one needs none."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        names: Mapping[str, Sequence[str]],
        interval: float,
        timeout: float,
    ) -> None:
        """`names` are the names of each assistant id; the log has them when there are several."""
        self._interval = interval
        self._monitors = {
            assistant_id: VapiHealthMonitor(
                base_url=base_url,
                api_key=api_key,
                assistant_id=assistant_id,
                interval=interval,
                timeout=timeout,
                label=f"{' and '.join(labels)}: " if len(names) > 1 else "",
            )
            for assistant_id, labels in names.items()
        }
        self._queue = CheckQueue(longest=interval) if len(self._monitors) > 1 else None

    @property
    def state(self) -> VapiState:
        """The state of all assistants, or `degraded` when they are not all up."""
        states = {monitor.state for monitor in self._monitors.values()}
        is_shared = len(states) == 1 and (
            self._queue is None or not states <= {VapiState.DOWN, VapiState.MISCONFIGURED}
        )
        return states.pop() if is_shared else VapiState.DEGRADED

    @property
    def has_verdict(self) -> bool:
        """Whether an assistant has been up or down once."""
        return any(monitor.has_verdict for monitor in self._monitors.values())

    async def ensure_available(self, assistant_id: str) -> None:
        """Return when sessions of an assistant can be served; one that is not up is checked next.

        Raises `ApiError` VAPI_SESSION_FAILED, as its monitor does.
        """
        monitor = self._monitors[assistant_id]
        if monitor.state in _SERVING:
            return
        if self._queue is not None:
            self._queue.hurry(monitor)
        await monitor.ensure_available()

    async def run(self, session: ClientSession) -> None:
        """Check all assistants until cancelled: at once, then spread over the interval."""
        count = len(self._monitors)
        async with asyncio.TaskGroup() as tasks:
            for place, monitor in enumerate(self._monitors.values(), 1):
                first_delay = self._interval * place / count
                tasks.create_task(monitor.run(session, self._queue, first_delay))
