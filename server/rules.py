"""The rules that the value of a single variable must hold; what they say never repeats it."""

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from environs import ValidationError
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

Rule = Callable[[Any], None]
"""Takes a value; raises `ValidationError`, in words for an operator, when it does not hold."""

_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
_RATE: Final = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour|day)")
_LOOPBACK: Final = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1")


def visible(value: str) -> None:
    """Visible ASCII without spaces: fit for an HTTP header."""
    if not _VISIBLE.fullmatch(value):
        raise ValidationError("must be visible ASCII characters without spaces or line breaks")


def between(low: float, high: float) -> Rule:
    """A number from low to high."""

    def rule(value: float) -> None:
        if not low <= value <= high:
            raise ValidationError(f"must be from {low:g} to {high:g}")

    return rule


def one_of(*allowed: str) -> Rule:
    """One word of a list."""

    def rule(value: str) -> None:
        if value not in allowed:
            raise ValidationError(f"must be one of {', '.join(allowed)}")

    return rule


def secure_url(value: str) -> None:
    """An https address, or http on loopback: nothing of ours crosses a network in the clear."""
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise ValidationError("must be an https address") from None
    loopback = url.scheme == "http" and _LOOPBACK.fullmatch(url.hostname or "")
    if not (url.hostname and (url.scheme == "https" or loopback)) or port == 0:
        raise ValidationError("must be an https address, or http on loopback")
    if url.username is not None or url.query or url.fragment or not _VISIBLE.fullmatch(value):
        raise ValidationError("must hold no user name, query, fragment or spaces")


def redis_url(value: str) -> None:
    """An address that the Redis client takes."""
    if not re.fullmatch(r"(rediss?|unix)://\S+", value):
        raise ValidationError("must start with redis://, rediss:// or unix://")
    try:
        ConnectionPool.from_url(value).make_connection()  # type: ignore[no-untyped-call]  # theirs
    except (TypeError, ValueError, RedisError):
        raise ValidationError("is no address that the Redis client understands") from None


def rate(value: str) -> None:
    """A rate limit: `N/second`, `N/minute`, `N/hour` or `N/day`, or nothing."""
    if value and not _RATE.fullmatch(value):
        raise ValidationError("must read N/second, N/minute, N/hour or N/day with N at least 1")


def origins(values: tuple[str, ...]) -> None:
    """Exact origins as browsers and web views send them (RFC 6454 section 6.2): of any scheme."""
    for value in values:
        if not _ORIGIN.fullmatch(value):
            raise ValidationError("must be origins like https://app.example.com, in lower case")


def visible_items(values: tuple[str, ...]) -> None:
    """A list whose every item is `visible`."""
    for value in values:
        visible(value)


def text(value: str) -> None:
    """Text that UTF-8 can write, which the bytes of an environment need not be."""
    if not value.isprintable():
        raise ValidationError("must be printable text")
