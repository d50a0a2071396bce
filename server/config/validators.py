"""The rules for the value of a single variable; their messages never repeat the value."""

import os
import re
import ssl
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any, Final
from urllib.parse import urlsplit

from environs import ValidationError, validate

from server.config.redis_url import parse_redis_url

Rule = Callable[[Any], object]
"""Raises `ValidationError`, with a message for the operator, for an invalid value."""

NAME_PATTERN: Final = "[A-Za-z0-9._-]{1,64}"
NAME_FORMAT: Final = "1 to 64 characters out of A-Z a-z 0-9 ._-"
MAX_ASSISTANTS: Final = 200
MAX_CONSENTS: Final = 16

_ASSISTANT: Final = re.compile(rf"({NAME_PATTERN}):([\x21-\x7e]+)")
_CALL_LIMIT: Final = re.compile(r"(active):[1-9][0-9]{0,5}|(minutes):[1-9][0-9]{0,5}/day")
_CONSENT: Final = re.compile(rf"({NAME_PATTERN})@{NAME_PATTERN}")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+\Z")
_MAX_BUNDLE_BYTES: Final = 4 * 1024 * 1024
_LOOPBACK: Final = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1")

visible: Final = validate.Regexp(
    _VISIBLE, error="must be visible ASCII characters without spaces or line breaks"
)
"""Fit for an HTTP header."""

rate: Final = validate.Regexp(
    r"(off|[1-9][0-9]{0,8}/(second|minute|hour|day))\Z",
    error="must be N/second, N/minute, N/hour or N/day with N at least 1, or off",
)

media_type: Final = validate.Regexp(
    r"[\w!#$&^.+-]+(/[\w!#$&^.+-]+)?\Z", re.ASCII, error="must be a media type such as at+jwt"
)
"""A media type (RFC 6838 section 4.2), with or without `application/`."""

origin: Final = validate.Regexp(
    r"(file://|null|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?)\Z",
    error="must be origins like https://app.example.com, in lower case",
)
"""An exact origin as browsers and web views send it (RFC 6454 section 6.2): of any scheme.

`file://` and `null` are what web views send for pages of the app's files.
"""

hash_key: Final = validate.Length(
    min=32, error="must be at least {min} bytes; try openssl rand -base64 48"
)


def one_of(*allowed: str) -> Rule:
    """One word of a list."""
    return validate.OneOf(allowed, error="must be one of {choices}")


def each(rule: Rule) -> Rule:
    """A list whose every item meets a rule."""

    def check(values: tuple[str, ...]) -> None:
        for value in values:
            rule(value)

    return check


def trimmed(value: str | bytes) -> None:
    """A secret without white space at either end, which copying or an editor can add."""
    text = os.fsdecode(value)
    if text != text.strip():
        raise ValidationError("must not begin or end with white space")


def between(low: float, high: float) -> Rule:
    """A number from low to high."""

    def rule(value: float) -> None:
        if not low <= value <= high:
            raise ValidationError(f"must be from {low:g} to {high:g}")

    return rule


def is_loopback(host: str) -> bool:
    """Return whether a host, as it stands in an address, is this machine."""
    return bool(_LOOPBACK.fullmatch(host))


def secure_url_with_query(value: str) -> None:
    """An https address, or http on loopback: secrets must not cross a network unencrypted."""
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise ValidationError("must be an https address") from None
    loopback = url.scheme == "http" and is_loopback(url.hostname or "")
    if not (url.hostname and (url.scheme == "https" or loopback)) or port == 0:
        raise ValidationError("must be an https address, or http on loopback")
    if url.username is not None or url.fragment or not _VISIBLE.match(value):
        raise ValidationError("must contain no user name, fragment or spaces")


def secure_url(value: str) -> None:
    """A `secure_url_with_query` without a query: paths are appended to it."""
    secure_url_with_query(value)
    if "?" in value:
        raise ValidationError("must contain no query")


def with_scheme(address: str) -> str:
    """Return the address of a proxy with its scheme, which may be missing."""
    return address if "://" in address else f"http://{address}"


def proxy(value: str) -> None:
    """An HTTP proxy: `http://host:port`, or without the scheme; it may have user and password."""
    try:
        url = urlsplit(with_scheme(value))
        has_place = bool(url.hostname) and url.port != 0
    except ValueError:
        has_place = False
    if not has_place or url.scheme != "http" or not _VISIBLE.match(value):
        raise ValidationError("must be http://host:port; no other kind of proxy is supported")
    if url.path not in {"", "/"} or url.query or url.fragment:
        raise ValidationError("must contain no path, query or fragment")


def read_bundle(path: str) -> str:
    """Return the text of a PEM file of certificates, without the characters that PEM has not.

    Raises ValueError without certificates, `ValidationError` when the file cannot be read.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123  Path would add nothing
            bundle = file.read(_MAX_BUNDLE_BYTES).decode("ascii", "ignore")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=bundle)
    except ssl.SSLError:
        raise ValueError from None
    except OSError as error:
        raise ValidationError(f"the file cannot be read ({error.strerror})") from None
    return bundle


def redis_url(value: str) -> None:
    """An address of Redis, whose files of TLS can be read."""
    try:
        address = parse_redis_url(value)
        if address.tls:
            address.tls.make_context()
    except OSError:
        raise ValidationError("must name files of TLS that can be used") from None
    except ValueError as error:
        raise ValidationError(str(error)) from None


def split_assistant(item: str) -> tuple[str, str]:
    """Split `name:id`."""
    name, _, assistant_id = item.partition(":")
    return name, assistant_id


def assistants(values: tuple[str, ...]) -> None:
    """A list of `name:id` with different names."""
    _named_items(values, _ASSISTANT, MAX_ASSISTANTS, "must be name:id, comma-separated")


def consents(values: tuple[str, ...]) -> None:
    """A list of `name@version` with different names."""
    _named_items(values, _CONSENT, MAX_CONSENTS, "must be name@version, comma-separated")


def call_limits(values: tuple[str, ...]) -> None:
    """A list out of `active:N` and `minutes:N/day`."""
    kinds = [match.lastindex for value in values if (match := _CALL_LIMIT.fullmatch(value))]
    if len(kinds) < len(values) or len(set(kinds)) < len(kinds):
        raise ValidationError("must be out of active:N and minutes:N/day, each once, N at least 1")


def _named_items(values: tuple[str, ...], form: re.Pattern[str], limit: int, demand: str) -> None:
    names = [match[1] for value in values if (match := form.fullmatch(value))]
    if len(names) < len(values):
        raise ValidationError(demand)
    if len(values) > limit:
        raise ValidationError(f"must have at most {limit} entries")
    if len(set(names)) < len(names):
        raise ValidationError("must have each name once")


def text(value: str) -> None:
    """Printable text that UTF-8 can encode, which the bytes of an environment may not be."""
    if not value.isprintable():
        raise ValidationError("must be printable text")


def issuers(values: tuple[str, ...]) -> None:
    """A list of issuers; a template, as Entra's common endpoint publishes, is not an issuer."""
    each(text)(values)
    if any("{" in value for value in values):
        raise ValidationError("contains {, so it is a template; set the issuer of your tenant")


def required_claims(values: tuple[str, ...]) -> None:
    """A list of `claim=value` or `claim=one|other`, each claim once."""
    each(text)(values)
    names = [value.partition("=")[0].rstrip() for value in values]
    accepted = [value.partition("=")[2] for value in values]
    if not all(names) or not all(each.strip() for text in accepted for each in text.split("|")):
        raise ValidationError("must be entries like claim=value or claim=one|other")
    if len(set(names)) < len(names):
        raise ValidationError("must name each claim once; write claim=one|other")


def network(value: str) -> None:
    """An IP network in CIDR notation (RFC 4632)."""
    try:
        ip_network(value)
    except ValueError:
        raise ValidationError("must be networks such as 10.0.0.0/8 or 2001:db8::/32") from None
