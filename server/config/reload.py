"""Rules for a reload: a file that is half written must not switch a protection off."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

from server.config.loader import Configuration
from server.config.settings import Settings
from server.config.sources import printable

_EMPTY_IS_WEAKER: Final = (
    "REDIS_URL",
    "JWT_ISSUER",
    "JWT_AUDIENCE",
    "JWT_REQUIRED_CLAIMS",
    "JWT_REQUIRED_TYPE",
    "JWT_REQUIRED_SCOPE",
    "VAPI_ALLOWED_ORIGINS",
    "PROOF_KEY",
    "CONSENT_REQUIRED",
    "JWT_CONSENT_CLAIM",
    "VAPI_ASSISTANT_CLAIM",
    "CALL_LIMITS",
)


def _by_order(*words: str) -> Callable[[Any], int]:
    """Return the strength of a word: its place among `words`, weakest first, or above them all."""
    return lambda value: words.index(value) if value in words else len(words)


_STRENGTH: Final[Mapping[str, Callable[[Any], int]]] = {
    "RATE_LIMIT": _by_order("off"),
    "JWT_ROLE_CLAIM": _by_order("off"),
    "CALL_MONITOR": _by_order("off", "report"),
    "JWT_DPOP": _by_order("off", "accept"),
    "VAPI_CREDENTIAL": _by_order("public_key"),
    "SESSIONS_PAUSED": bool,
    "JWT_MAX_LIFETIME_SECONDS": bool,
    **dict.fromkeys(_EMPTY_IS_WEAKER, bool),
}
"""How strong a value of each setting protects; a lower number is weaker."""


def find_refusals(last: Configuration, new: Configuration) -> Iterator[str]:
    """Yield the reasons, by name and without values, why `new` must not replace `last`."""
    if not new.sources.ends_with_line_break:
        yield ".env: does not end with a line break; it may have been cut off"
    for name in sorted(last.sources.file_names - new.sources.file_names):
        yield f"{printable(name)}: is missing in .env; write {printable(name)}= to drop it"
    yield from _check_hash_key(last.settings, new.settings)


def _check_hash_key(last: Settings, new: Settings) -> Iterator[str]:
    """Without the previous key, revocations under its hashes would no longer be found."""
    if last.audit_hash_key not in (b"", new.audit_hash_key, new.audit_hash_key_previous):
        yield "AUDIT_HASH_KEY: changed; set AUDIT_HASH_KEY_PREVIOUS to the present key too"


def find_changed(last: Settings, new: Settings) -> list[str]:
    """Return the names of the settings that differ."""
    names = [item.name for item in fields(last)]
    return [each.upper() for each in names if getattr(last, each) != getattr(new, each)]


def find_weakened(last: Settings, new: Settings) -> list[str]:
    """Return the names of the settings that protect less than before."""
    return [
        name
        for name in find_changed(last, new)
        if name in _STRENGTH
        and _STRENGTH[name](getattr(new, name.lower()))
        < _STRENGTH[name](getattr(last, name.lower()))
    ]
