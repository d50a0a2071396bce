"""The assistants by name, which of them a session is for, and what Vapi says of them."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec
from aiohttp import ClientSession, hdrs

from middlewares.context import Principal
from middlewares.errors import ApiError, ErrorCode
from server.config import Settings
from server.config.validators import NAME_FORMAT, NAME_PATTERN, split_assistant
from server.http_client import FetchError, fetch
from server.vapi.health import MAX_OPEN_CHECKS, Status, assistant_url

_NAME: Final = re.compile(NAME_PATTERN)
DEFAULT_NAME: Final = "VAPI_ASSISTANT_ID"
"""What the default assistant is called in messages."""

ChooseAssistant = Callable[[Mapping[str, object], Principal], str]
"""Returns the assistant id for a request's body and principal.

Raises `ApiError`: INVALID_REQUEST for a malformed `assistant`, ASSISTANT_NOT_ALLOWED.
"""


def assistants_by_name(settings: Settings) -> Mapping[str, str]:
    """Return the id of each assistant of `VAPI_ASSISTANTS` by its name; it cannot be changed."""
    return MappingProxyType(dict(map(split_assistant, settings.vapi_assistants)))


def names_by_id(settings: Settings) -> dict[str, list[str]]:
    """Return what each configured assistant id is called, the default first; each id once."""
    names: dict[str, list[str]] = {}
    if settings.vapi_assistant_id:
        names[settings.vapi_assistant_id] = [DEFAULT_NAME]
    for name, assistant_id in assistants_by_name(settings).items():
        names.setdefault(assistant_id, []).append(name)
    return names


def make_assistant_choice(settings: Settings) -> ChooseAssistant | None:
    """Return the function that chooses, or None without `VAPI_ASSISTANTS`."""
    default, ids = settings.vapi_assistant_id, assistants_by_name(settings)
    if not ids:
        return None
    has_claim = bool(settings.vapi_assistant_claim)

    def choose(body: Mapping[str, object], principal: Principal) -> str:
        granted = principal.assistants if has_claim else None
        if "assistant" in body:
            chosen = _named(body["assistant"], ids, granted)
        else:
            chosen = _first(ids, granted or ()) or default
        if not chosen:
            details = "There is no such assistant for this patient"
            raise ApiError(ErrorCode.ASSISTANT_NOT_ALLOWED, details)
        return chosen

    return choose


def _named(name: object, ids: Mapping[str, str], granted: Sequence[str] | None) -> str | None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ApiError(ErrorCode.INVALID_REQUEST, f"assistant must be {NAME_FORMAT}")
    return ids.get(name) if granted is None or name in granted else None


def _first(ids: Mapping[str, str], granted: Sequence[str]) -> str | None:
    return next((ids[name] for name in granted if name in ids), None)


_MAX_BODY_BYTES: Final = 16 * 1024 * 1024


class MonitorPlan(msgspec.Struct, frozen=True, rename="camel"):
    """How calls can be followed while they last; Vapi's defaults are true and false."""

    listen_enabled: bool | None = None
    listen_authentication_enabled: bool | None = None


class Assistant(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of an assistant: everything else, its prompt included, is skipped."""

    org_id: str | None = None
    monitor_plan: MonitorPlan | None = None

    @property
    def is_open_to_listeners(self) -> bool:
        """Return whether a call's id is enough to listen to it."""
        plan = self.monitor_plan or MonitorPlan()
        return plan.listen_enabled is not False and plan.listen_authentication_enabled is not True


async def read_assistants(
    settings: Settings, session: ClientSession
) -> dict[str, Assistant | Status]:
    """Ask Vapi for each assistant once; return it by its id, or the status when there is none."""
    open_requests = asyncio.Semaphore(MAX_OPEN_CHECKS)
    headers = {hdrs.AUTHORIZATION: f"Bearer {settings.vapi_api_key}"}

    async def read(assistant_id: str) -> Assistant | Status:
        url, seconds = (
            assistant_url(settings.vapi_base_url, assistant_id),
            settings.vapi_timeout_seconds,
        )
        async with open_requests:
            try:
                status, body = await fetch(session, url, seconds, headers, _MAX_BODY_BYTES)
            except FetchError as error:
                return str(error)
        try:
            # The service looks at the status alone: an empty body is no failure here either.
            return msgspec.json.decode(body or b"{}", type=Assistant) if status == 200 else status
        except (ValueError, RecursionError):
            return "the body is not an assistant"

    ids = list(names_by_id(settings))
    return dict(zip(ids, await asyncio.gather(*map(read, ids)), strict=True))
