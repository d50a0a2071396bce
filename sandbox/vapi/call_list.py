"""The stand-in's `GET /call`, with filters and paging, and `POST` to a call's control address."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import ge, gt, le, lt
from typing import Any, Final

import msgspec
from aiohttp import web

from sandbox.serving import answer, read_json
from sandbox.vapi.calls import CallStore, timestamp
from sandbox.vapi.errors import Refusal, error_response

CALLS = web.AppKey("calls", CallStore)

_COMPARISONS: Final = {"Gt": gt, "Ge": ge, "Lt": lt, "Le": le}
_DEFAULT_LIMIT: Final = 100
_MAX_LIMIT: Final = 1000


@dataclass(slots=True)
class CallListFaults:
    """What the list does wrong, which can be assigned at any time.

    `lag` in seconds hides younger calls; `lose_updates` leaves `updatedAt` at the creation;
    `omit_overrides` drops the overrides of each call, `redact_overrides` hides their values;
    `status` answers the list with an error;
    `junk` puts entries that are no calls first; `deaf` accepts ends and does nothing;
    `transcript` is added to each call; `more` are calls that the store does not have.
    """

    lag: float = 0
    lose_updates: bool = False
    omit_overrides: bool = False
    redact_overrides: bool = False
    status: int = 200
    retry_after: int = 1
    junk: bool = False
    deaf: bool = False
    transcript: str = ""
    more: list[dict[str, Any]] = field(default_factory=list)


CALL_LIST = web.AppKey("call_list", CallListFaults)

_JUNK: Final[list[object]] = [None, 7, {"id": 5}, {"id": "x", "createdAt": "never"}]


def list_calls(request: web.Request) -> web.Response:
    """Answer the list, the newest call first."""
    faults = request.app[CALL_LIST]
    if faults.status != 200:
        response = error_response(faults.status)
        response.headers["Retry-After"] = str(faults.retry_after)
        return response
    chosen = [call for call in _calls(request.app, faults) if _matches(call, request)]
    chosen.sort(key=lambda call: str(call["createdAt"]), reverse=True)
    entries: list[object] = [*_JUNK] if faults.junk else []
    return answer((entries + chosen)[: _limit(request)])


def _calls(app: web.Application, faults: CallListFaults) -> Iterator[dict[str, Any]]:
    app[CALLS].end_overdue()
    newest = datetime.now(UTC) - timedelta(seconds=faults.lag)
    for each in app[CALLS]:
        call: dict[str, Any] = msgspec.to_builtins(each.call)
        if faults.lose_updates:
            call["updatedAt"] = call["createdAt"]
        if faults.omit_overrides:
            del call["assistantOverrides"]
        elif faults.redact_overrides:
            call["assistantOverrides"] = _redacted(call["assistantOverrides"])
        if faults.transcript:
            call["artifact"] = {"transcript": faults.transcript}
        if _date(call["createdAt"]) <= newest:
            yield call
    yield from faults.more


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _redacted(each) for name, each in value.items()}
    return "[REDACTED]"


def _matches(call: dict[str, Any], request: web.Request) -> bool:
    for name in ("createdAt", "updatedAt"):
        for suffix, compare in _COMPARISONS.items():
            bound = request.query.get(name + suffix)
            if bound is not None and not compare(_date(call[name]), _date(bound)):
                return False
    named = request.query.get("assistantId")
    return named is None or call.get("assistantId") == named


def _date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(400, ["dates must be valid ISO 8601 date strings"]) from None


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(_DEFAULT_LIMIT))
    if not text.isdecimal() or int(text) > _MAX_LIMIT:
        raise Refusal(400, [f"limit must not be greater than {_MAX_LIMIT}"])
    return int(text)


async def control_call(request: web.Request) -> web.Response:
    """End a call for `{"type": "end-call"}`; accept other messages without an effect."""
    message = await read_json(request, dict[str, Any])
    calls, call_id = request.app[CALLS], request.match_info["id"]
    if calls.get(call_id) is None:
        raise Refusal(404, "Call not found")
    if message.get("type") == "end-call" and not request.app[CALL_LIST].deaf:
        calls.end(call_id, "assistant-ended-call")
    return answer({"success": True, "at": timestamp()})
