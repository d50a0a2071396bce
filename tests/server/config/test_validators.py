"""The rules for single values; a message never repeats the value."""

import re

import pytest
from environs import ValidationError

from server.config import validators as rules
from server.config.validators import Rule

NETWORKS: list[object] = [(), ("10.0.0.0/8", "::1", "2001:db8::/32"), ("192.0.2.1",)]
BAD_NETWORKS: list[object] = [("10.0.0.1/8",), ("10.0.0.0/33",), ("fe80::1%eth0/64",), ("a.test",)]
GOOD: list[tuple[str, Rule, list[object]]] = [
    (
        "secure_url",
        rules.secure_url,
        [
            "https://api.vapi.ai",
            "https://api.vapi.ai:8443/base/",
            "HTTPS://api.vapi.ai",
            "http://localhost",
            "http://127.0.0.1:8080/x",
            "http://127.1.2.3",
            "http://[::1]:80",
        ],
    ),
    (
        "redis_url",
        rules.redis_url,
        ["redis://h", "redis://h/", "rediss://:p@h:1/15", "unix:///tmp/r?db=1"],
    ),
    ("rate", rules.rate, ["off", "1/second", "30/minute", "999999999/hour", "1/day"]),
    (
        "origins",
        rules.origins,
        [
            (),
            ("https://a.test", "http://localhost:3000", "https://[::1]:1", "capacitor://localhost"),
            ("ionic://localhost", "app://obsidian.md", "app://-", "file://", "null"),
        ],
    ),
    ("networks", rules.networks, NETWORKS),
    ("secure_url_with_query", rules.secure_url_with_query, ["https://a.test/?q=1"]),
]
BAD: list[tuple[str, Rule, list[object]]] = [
    (
        "secure_url",
        rules.secure_url,
        [
            "api.vapi.ai",
            "http://api.vapi.ai",
            "ftp://localhost",
            "https://",
            "https:///x",
            "http://127.0.0.1.evil.test",
            "http://localhost.evil.test",
            "http://evil.test/127.0.0.1",
            "http://128.0.0.1",
            "https://user@host",
            "https://user:secret@host",
            "https://host/?q=1",
            "https://host/?",
            "https://host/#f",
            "https://ho st",
            "https://host/é",
            "https://host:0",
            "https://host:99999",
            "https://host:x",
            "https://[::1",
            "https://host\n",
        ],
    ),
    (
        "redis_url",
        rules.redis_url,
        [
            "http://h",
            "redis:/h",
            "redis:///0",
            "h:6379",
            "redis://h h",
            "redis://h:port",
            "redis://h:99999",
            "redis://h/name",
            "redis://h/0/1",
            "redis://h?db=one",
            "redis://a..b",
            "unix://?db=1",
            "rediss://h?ssl_cert_reqs=CERT_NONE",
            "rediss://h?ssl_check_hostname=maybe",
            "rediss://h?ssl_keyfile=/dev/null",
            "rediss://h?ssl_ca_certs=/nonexistent",
        ],
    ),
    (
        "rate",
        rules.rate,
        [
            "0/minute",
            "01/minute",
            "-1/minute",
            "1.5/minute",
            "30/minutes",
            "30",
            "/minute",
            "30 / minute",
            "30/MINUTE",
            "1/minute\n",
            "1/minute;1/day",
            "9999999999/day",
        ],
    ),
    (
        "origins",
        rules.origins,
        [
            ("*",),
            ("NULL",),
            ("file:///",),
            ("file://a b",),
            ("https://a.test/",),
            ("https://A.test",),
            ("a.test",),
            ("https://a.test:123456",),
            ("https://*.a.test",),
            ("https://a.test\n",),
            ("https://good.test", "bad"),
        ],
    ),
    ("networks", rules.networks, BAD_NETWORKS),
    ("secure_url_with_query", rules.secure_url_with_query, ["https://host/#f", "http://a.test?q"]),
]


@pytest.mark.parametrize(
    ("rule", "value"),
    [pytest.param(rule, v, id=f"{name} {v!a}") for name, rule, values in GOOD for v in values],
)
def test_valid_values(rule: Rule, value: object) -> None:
    rule(value)


@pytest.mark.parametrize(
    ("rule", "value"),
    [pytest.param(rule, v, id=f"{name} {v!a}") for name, rule, values in BAD for v in values],
)
def test_invalid_values_are_rejected_without_repeating_them(rule: Rule, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        rule(value)
    reported = str(caught.value)
    assert re.fullmatch(r"(must|is) [ -~]+", reported.strip("[]'\"")), reported
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    for item in value if isinstance(value, tuple) else (value,):
        assert len(str(item)) < 8 or str(item) not in reported
