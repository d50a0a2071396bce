"""Vapi's list of calls, and the end of a call. Transcripts and recordings are never decoded."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from time import time
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, hdrs

from server.config import Settings
from server.http_client import describe_failure
from server.vapi.call_windows import Window
from server.vapi.web_call import (
    UnreadableCall,
    WebCall,
    decode_entry,
    decode_page,
    find_large,
    read_start,
)

_PAGE_BYTES: Final = 16 * 1024 * 1024
_GOOD_PAGE_BYTES: Final = 3 * 1024 * 1024
"""The size of a page that the number of calls in it aims at: a page is in memory as a whole."""
_START_BYTES: Final = 256 * 1024
_MAX_CALLS: Final = 1000
_FIRST_CALLS: Final = 50
_TIMEOUT: Final = ClientTimeout(total=4)
_MAX_REQUESTS: Final = 300
"""The most requests for one list; one that cannot be read in so many is a failure."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class CallListError(Exception):
    """The list cannot be read now. `status` is Vapi's, or 0 without an answer; `retry_after` is
    what it asked for, in seconds.
    """

    def __init__(self, reason: str, status: int = 0, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


class _TooLarge(Exception):  # noqa: N818  it names a state
    """A page is too large to be read; `body` is its beginning."""

    def __init__(self, body: bytearray) -> None:
        super().__init__()
        self.body = body


@dataclass(slots=True)
class CallList:
    """The web calls by id, and the calls that alone are too large to be read.

    `date` is Vapi's clock at the last answer, in seconds since the epoch; ours if it tells none.
    """

    calls: dict[str, WebCall] = field(default_factory=dict)
    unreadable: list[UnreadableCall] = field(default_factory=list)
    date: float = 0.0

    def add_unreadable(
        self, call: UnreadableCall, window: Window, rest: list[Window]
    ) -> list[Window]:
        """Add a call that cannot be read, once the windows of `rest` are around it; return them."""
        is_found = None not in (call.id, call.updated, call.created)
        if not rest:
            call = replace(call, updated=sum(window.updated) // 2)
        if (is_found or not rest) and call not in self.unreadable:
            self.unreadable.append(call)
        return rest


class CallApi:
    """Reads and ends calls."""

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.vapi_base_url.rstrip('/')}/call"
        self._is_local = urlsplit(settings.vapi_base_url).hostname in _LOOPBACK
        self._headers = {hdrs.AUTHORIZATION: f"Bearer {settings.vapi_api_key}"}
        public_key = settings.vapi_public_api_key
        self._end_headers = {hdrs.AUTHORIZATION: f"Bearer {public_key}"} if public_key else {}
        self._allowed = settings.call_overrides
        self._limit = _FIRST_CALLS

    async def read(
        self,
        session: ClientSession,
        since: float,
        until: float,
        *,
        skip: Collection[UnreadableCall] = (),
    ) -> CallList:
        """Return the web calls that changed between two times. Raises `CallListError`.

        Calls of `skip` that have not changed since are not read again.
        """
        listed = CallList()
        windows = [Window((round(since * 1000), round(until * 1000)))]
        for call in skip:
            windows = [part for each in windows for part in each.without(call)]
        for _ in range(_MAX_REQUESTS):
            if not windows:
                return listed
            windows += await self._read_window(session, listed, windows.pop())
        raise CallListError("too many pages")

    async def _read_window(
        self, session: ClientSession, listed: CallList, window: Window
    ) -> list[Window]:
        """Read one page; return the windows that must be read in addition."""
        limit = self._limit
        try:
            page = await self._page(session, listed, window, limit)
        except _TooLarge as error:
            return self._divide(listed, window, limit, error.body)
        entries = list(filter(None, (decode_entry(raw, self._allowed) for raw in page)))
        listed.calls |= {each.call.id: each.call for each in entries if each.call is not None}
        if len(page) < limit:
            return []
        parts = window.split(entries)
        return parts or listed.add_unreadable(UnreadableCall(None), window, [])

    def _divide(
        self, listed: CallList, window: Window, limit: int, body: bytearray
    ) -> list[Window]:
        """Return what to read in place of a page that is too large."""
        if limit == 1:
            call = read_start(bytes(body[:_START_BYTES]))
            rest = listed.add_unreadable(call, window, window.around(call))
            self._limit = _FIRST_CALLS if listed.unreadable else 1
            return rest
        if parts := window.apart(find_large(body)):
            return parts
        self._limit = limit // 2 if window.is_wide else 1
        return [window]

    async def _page(
        self, session: ClientSession, listed: CallList, window: Window, limit: int
    ) -> list[msgspec.Raw]:
        body = bytearray()
        try:
            async with session.get(
                self._url,
                params=window.query(limit),
                headers=self._headers,
                timeout=_TIMEOUT,
                allow_redirects=False,
            ) as response:
                _check_status(response)
                listed.date = _date_of(response)
                await _read_body(response, body)
            page, unreadable = decode_page(body)
        except (ClientError, OSError, ValueError) as error:
            if isinstance(error, TimeoutError) and len(body) > _GOOD_PAGE_BYTES:
                raise _TooLarge(body) from None
            raise CallListError(describe_failure(error)) from None
        listed.unreadable += [each for each in unreadable if each not in listed.unreadable]
        if page:
            self._limit = min(2 * limit, _MAX_CALLS, _GOOD_PAGE_BYTES * len(page) // len(body) + 1)
        return page

    def can_end(self, call: WebCall) -> bool:
        """Return whether the control address is Vapi's; no other address is ever called."""
        try:
            url = urlsplit(call.control_url or "")
            host = url.hostname or ""
            is_plain = url.port is None or url.port > 0
        except ValueError:
            return False
        if url.username is not None or not is_plain:
            return False
        if url.scheme == "https" and (host == "vapi.ai" or host.endswith(".vapi.ai")):
            return True
        return self._is_local and host in _LOOPBACK and url.scheme in {"http", "https"}

    async def end(self, session: ClientSession, call: WebCall) -> bool:
        """End a call; return whether Vapi accepted it."""
        if not self.can_end(call):
            return False
        try:
            async with session.post(
                str(call.control_url),
                json={"type": "end-call"},
                headers=self._end_headers,
                timeout=_TIMEOUT,
                allow_redirects=False,
            ) as response:
                response.close()
                return 200 <= response.status < 300
        except (ClientError, TimeoutError, OSError, ValueError):
            return False


def _check_status(response: ClientResponse) -> None:
    if response.status != 200:
        status = response.status
        raise CallListError(f"status {status}", status, _retry_after(response))


def _retry_after(response: ClientResponse) -> float:
    text = response.headers.get(hdrs.RETRY_AFTER, "")
    return min(float(text), 3600.0) if text.isascii() and text.isdecimal() else 0.0


def _date_of(response: ClientResponse) -> float:
    try:
        return parsedate_to_datetime(response.headers.get(hdrs.DATE, "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return time()


async def _read_body(response: ClientResponse, body: bytearray) -> None:
    """Append the body. Raises `_TooLarge`."""
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > _PAGE_BYTES:
            raise _TooLarge(body)
