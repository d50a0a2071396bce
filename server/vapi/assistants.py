"""The assistants by name, and which of them a session is for."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from middlewares.context import Principal
from middlewares.errors import ApiError, ErrorCode
from server.config import Settings
from server.config.validators import NAME_FORMAT, NAME_PATTERN, split_assistant

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


def make_assistant_choice(settings: Settings) -> ChooseAssistant:
    """Return the function that chooses; without `VAPI_ASSISTANTS` it returns the default."""
    default, ids = settings.vapi_assistant_id, assistants_by_name(settings)
    if not ids:
        return lambda _body, _principal: default
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
