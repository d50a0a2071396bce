"""Vapi's health, checked in the background so that no request waits for Vapi."""

import asyncio
import logging
from enum import StrEnum
from math import ceil
from time import monotonic
from typing import Final
from urllib.parse import quote

from aiohttp import ClientError, ClientSession, ClientTimeout, hdrs
from yarl import URL

from middlewares.errors import ApiError, ErrorCode
from server.http_client import retry_delay

log = logging.getLogger(__name__)

_ADVICE: Final = {
    None: "check VAPI_BASE_URL, the network and status.vapi.ai",
    400: "VAPI_ASSISTANT_ID is malformed; copy the UUID of an assistant that VAPI_API_KEY may use",
    401: "VAPI_API_KEY is rejected; copy the private key, not the public one, from the dashboard",
    403: "VAPI_API_KEY has no access to the assistant; use a private key without restrictions",
    404: "VAPI_ASSISTANT_ID is unknown in the organization of VAPI_API_KEY; compare the two",
    429: "Vapi limits requests of this organization; wait, or raise VAPI_CHECK_SECONDS",
}


def describe_status(status: int | None) -> str:
    """Return the status and what to do; None means no answer."""
    if status == 200:
        return "200: VAPI_API_KEY is accepted and the assistant exists"
    if status is not None and status not in _ADVICE:
        advice = "Vapi fails; see status.vapi.ai"
        if status < 500:
            advice = "this is not Vapi's API; check VAPI_BASE_URL, and any proxy before it"
        return f"{status}: {advice}"
    return f"{'no answer' if status is None else status}: {_ADVICE[status]}"


_REJECTED: Final = frozenset({400, 401, 403, 404})
"""Statuses that mean a wrong key or assistant id: waiting does not help."""


class VapiState(StrEnum):
    """The state of Vapi: `unknown` before the first verdict, `off` when it is not checked."""

    OFF = "off"
    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    MISCONFIGURED = "misconfigured"


class VapiHealthMonitor:
    """Requests the assistant every `interval` seconds (0: never), within `timeout` seconds.

    Only the status line is used: the body contains the assistant's prompt and is never read.
    """

    def __init__(
        self, *, base_url: str, api_key: str, assistant_id: str, interval: float, timeout: float
    ) -> None:
        path = f"{base_url.rstrip('/')}/assistant/{quote(assistant_id, safe='')}"
        self._url = URL(path, encoded=True)
        self._headers = {hdrs.AUTHORIZATION: f"Bearer {api_key}"}
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

    async def run(self, session: ClientSession) -> None:
        """Check until cancelled."""
        while self.state is not VapiState.OFF:
            delay = self.record_status(await self.fetch_status(session))
            self._next_check = monotonic() + delay
            await asyncio.sleep(delay)

    async def fetch_status(self, session: ClientSession) -> int | None:
        """Return the status that Vapi answers one request with, or None without an HTTP answer."""
        try:
            async with session.get(
                self._url, headers=self._headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                response.close()
                return response.status
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            log.debug("no answer from Vapi: %s", type(error).__name__)
            return None

    def record_status(self, status: int | None) -> float:
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
            log.log(level, text)
        self.has_verdict = self.has_verdict or state is not VapiState.MISCONFIGURED
        self._has_status.set()
