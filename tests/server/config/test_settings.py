"""The settings: defaults and limits of every variable, and all faults in one report."""

import logging
import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from rig.service import NO_FILE, PRIVATE_KEY, PUBLIC_KEY, SECRET, VARIABLES, make_settings
from server.config import Settings, load_settings
from server.config.loader import SettingsError, load_configuration
from server.config.redis_url import TlsOptions, parse_redis_url
from tests.server.config.support import faults

MINIMUM = {
    "VAPI_API_KEY": PRIVATE_KEY,
    "VAPI_PUBLIC_API_KEY": PUBLIC_KEY,
    "VAPI_ASSISTANT_ID": "33333333-3333-4333-8333-333333333333",
    "JWT_SECRET": SECRET,
}

DEFAULTS = {
    "vapi_assistants": (),
    "vapi_assistant_claim": "",
    "vapi_credential": "public_key",
    "vapi_org_id": "",
    "vapi_token_ttl_seconds": 120,
    "vapi_allowed_origins": (),
    "vapi_base_url": "https://api.vapi.ai",
    "vapi_check_seconds": 30,
    "vapi_timeout_seconds": 2,
    "jwt_secret_previous": b"",
    "jwt_public_key": "",
    "jwt_jwks_url": "",
    "jwt_algorithms": ("HS256",),
    "jwt_issuer": (),
    "jwt_audience": (),
    "jwt_dpop": "off",
    "public_url": (),
    "jwt_leeway_seconds": 5,
    "jwt_max_lifetime_seconds": 0,
    "jwt_patient_id_claim": "id",
    "jwt_role_claim": "type",
    "jwt_patient_role": "patient",
    "jwt_required_scope": "",
    "jwt_consent_claim": "",
    "jwt_required_claims": (),
    "jwt_required_type": "",
    "jwks_cache_seconds": 600,
    "jwks_stale_seconds": 86400,
    "jwks_timeout_seconds": 10,
    "jwks_cooldown_seconds": 5,
    "host": "0.0.0.0",
    "port": 8080,
    "trusted_proxies": (),
    "session_budget_seconds": 3,
    "max_body_bytes": 16384,
    "max_connections": 10000,
    "shutdown_grace_seconds": 10,
    "shutdown_delay_seconds": 0,
    "https_proxy": "",
    "no_proxy": "",
    "ssl_cert_file": "",
    "keepalive_seconds": 3630,
    "rate_limit": "30/minute",
    "consent_required": (),
    "sessions_paused": False,
    "redis_url": "",
    "redis_failure": "refuse",
    "proof_key": "",
    "proof_issuer": "",
    "proof_audience": "",
    "call_monitor": "off",
    "call_monitor_seconds": 10,
    "call_limits": (),
    "call_overrides": ("variableValues.patientProof",),
    "cors_allowed_origins": (),
    "metrics_enabled": False,
    "docs_enabled": False,
    "audit_hash_key": b"",
    "audit_hash_key_previous": b"",
    "log_level": "INFO",
    "log_format": "json",
}


def test_defaults() -> None:
    configuration = load_configuration(MINIMUM, NO_FILE)
    required = {name.lower() for name in MINIMUM}
    actual = {item.name: getattr(configuration.settings, item.name) for item in fields(Settings)}
    assert {name: value for name, value in actual.items() if name not in required} == DEFAULTS
    assert configuration.warnings == ()


def test_all_faults_are_reported_together_one_line_each() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({}, NO_FILE)
    assert [fault.split(":")[0] for fault in caught.value.faults] == [
        "JWT_SECRET",
        "VAPI_API_KEY",
        "VAPI_ASSISTANT_ID",
        "VAPI_PUBLIC_API_KEY",
    ]
    assert str(caught.value) == "\n".join(caught.value.faults)


LIMITS: list[tuple[str, list[str], list[str]]] = [
    ("VAPI_API_KEY", ["a-b"], ["a b", "é", "a\x00b"]),
    ("VAPI_PUBLIC_API_KEY", ["a-b"], ["a b"]),
    ("VAPI_ASSISTANT_ID", ["a-b"], ["a b"]),
    ("VAPI_ASSISTANTS", ["a:b, c:b"], ["a b:c", "a:b, a:c", "assistant-only", ":b-id", "name:"]),
    ("VAPI_CREDENTIAL", ["public_key", "session_token"], ["private_key", "PUBLIC_KEY"]),
    ("VAPI_ORG_ID", ["a-b"], ["a b"]),
    ("VAPI_TOKEN_TTL_SECONDS", ["10", "3600"], ["9", "3601", "10.5", "x"]),
    ("VAPI_ALLOWED_ORIGINS", ["https://a.test, https://b.test"], ["https://a b.test"]),
    (
        "VAPI_BASE_URL",
        [
            "https://api.vapi.ai:8443/base/",
            "HTTPS://api.vapi.ai",
            "http://localhost",
            "http://127.1.2.3:8080/x",
            "http://[::1]:80",
        ],
        [
            "api.vapi.ai",
            "http://api.vapi.ai",
            "ftp://localhost",
            "https:///x",
            "http://127.0.0.1.evil.test",
            "http://localhost.evil.test",
            "http://evil.test/127.0.0.1",
            "http://128.0.0.1",
            "https://user@host",
            "https://user:secret@host",
            "https://host/?",
            "https://host/#f",
            "https://ho st",
            "https://host/é",
            "https://host:0",
            "https://host:99999",
            "https://[::1",
            "https://host\n",
        ],
    ),
    ("VAPI_CHECK_SECONDS", ["0", "0.5", "3600"], ["-1", "3601", "nan", "inf"]),
    ("VAPI_TIMEOUT_SECONDS", ["0.01", "2.9"], ["0", "3", "3601"]),
    (
        "HTTPS_PROXY",
        ["http://p:1", "p:1", "HTTP://p", "http://u:p@[::1]:1/", "p.test"],
        ["https://p:1", "socks5://p", "http://p:x", "http://", "p:0", "p:1/x", "p?x", "p q", ":1"],
    ),
    ("JWT_SECRET", ["x" * 32, "é" * 16], ["x" * 31, f"ssh-rsa {'A' * 40}"]),
    ("JWT_SECRET_PREVIOUS", ["x" * 32], ["x" * 31, f"ssh-rsa {'A' * 40}"]),
    ("JWT_ISSUER", ["https://a.test, b", "a b"], ["a\nb", "https://a.test/{tenantid}/v2.0"]),
    ("JWT_AUDIENCE", ["a, b c"], ["a\nb"]),
    ("JWT_DPOP", ["off"], ["on", "ACCEPT"]),
    (
        "PUBLIC_URL",
        ["https://a.test, http://127.0.0.1:1/x/"],
        ["http://a.test", "https://a.test?b"],
    ),
    ("JWT_LEEWAY_SECONDS", ["0", "300"], ["-0.1", "300.1"]),
    ("JWT_MAX_LIFETIME_SECONDS", ["0", "86400"], ["-1"]),
    ("JWT_PATIENT_ID_CLAIM", ["user.id"], ["\x01"]),
    ("JWT_ROLE_CLAIM", ["https://a.test/roles"], ["a\nb"]),
    ("JWT_PATIENT_ROLE", ["Patient Zero"], ["a\nb"]),
    ("JWT_REQUIRED_SCOPE", ["voice:start"], ["a\nb"]),
    ("JWT_CONSENT_CLAIM", ["app.consents"], ["a\nb"]),
    ("JWT_REQUIRED_CLAIMS", ["a=b", "a=b|c, d = e=f"], ["a", "=b", "a=b|", "a=b,a=c", "a=\nb"]),
    ("JWT_REQUIRED_TYPE", ["at+jwt", "application/at+jwt"], ["a b", "a/b/c", "ä+jwt"]),
    ("JWKS_CACHE_SECONDS", ["1"], ["0", "-1"]),
    ("JWKS_STALE_SECONDS", ["1"], ["0"]),
    ("JWKS_TIMEOUT_SECONDS", ["0.01", "60"], ["0"]),
    ("JWKS_COOLDOWN_SECONDS", ["1"], ["0"]),
    ("HOST", ["::1", "localhost"], ["a b"]),
    ("PORT", ["0", "1", "65535"], ["-1", "65536", "http", "7.5", "9" * 5000]),
    (
        "TRUSTED_PROXIES",
        ["10.0.0.0/8, ::1, 2001:db8::/32", "192.0.2.1"],
        ["10.0.0.1/8", "10.0.0.0/33", "fe80::1%eth0/64", "::1, a.test"],
    ),
    ("SESSION_BUDGET_SECONDS", ["2.5", "60"], ["0", "-1", "1e9"]),
    ("MAX_BODY_BYTES", ["1", "16777216"], ["0", "16777217"]),
    ("MAX_CONNECTIONS", ["1", "1000000"], ["0", "-1", "many"]),
    (
        "RATE_LIMIT",
        ["1/second", "30/minute", "999999999/hour", "1/day", "off"],
        [
            "0/minute",
            "01/minute",
            "-1/minute",
            "1.5/minute",
            "30/minutes",
            "/minute",
            "30 / minute",
            "30/MINUTE",
            "OFF",
            "1/minute\n",
            "1/minute;1/day",
            "9999999999/day",
        ],
    ),
    ("CONSENT_REQUIRED", ["a@1, b@1"], ["a@1, a@2", "voice", "voice@", "@2026", "a@b@c", "a b@1"]),
    ("SESSIONS_PAUSED", ["true", "false"], ["1", "paused"]),
    (
        "REDIS_URL",
        ["redis://h", "redis://h/", "rediss://:p@h:1/15", "unix:///tmp/r?db=1"],
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
    ("REDIS_FAILURE", ["refuse", "serve"], ["ignore"]),
    ("CALL_MONITOR", ["off"], ["on", "REPORT"]),
    ("CALL_MONITOR_SECONDS", ["1", "3600"], ["0.9", "3601"]),
    ("CALL_LIMITS", [], ["active:0", "minutes:30", "active:1, active:2", "calls:1"]),
    (
        "CORS_ALLOWED_ORIGINS",
        [
            "https://a.test, http://localhost:3000, https://[::1]:1, capacitor://localhost",
            "ionic://localhost, app://obsidian.md, app://-, app://my_app, file://, null",
        ],
        [
            "*",
            "NULL",
            "file:///",
            "file://a b",
            "https://a.test/",
            "https://A.test",
            "a.test",
            "https://a.test:123456",
            "https://*.a.test",
            "https://good.test, bad",
        ],
    ),
    ("METRICS_ENABLED", ["true", "false", "True"], ["1", "on"]),
    ("DOCS_ENABLED", ["true", "false"], ["1", "on"]),
    ("AUDIT_HASH_KEY", ["x" * 32, "é" * 16], ["x" * 31]),
    ("AUDIT_HASH_KEY_PREVIOUS", ["y" * 32], ["y" * 31]),
    ("LOG_LEVEL", ["DEBUG", "CRITICAL"], ["debug", "TRACE"]),
    ("LOG_FORMAT", ["json", "console"], ["text"]),
    ("SHUTDOWN_GRACE_SECONDS", ["0", "3600"], ["-1"]),
    ("SHUTDOWN_DELAY_SECONDS", ["0", "3600"], ["-1"]),
    ("KEEPALIVE_SECONDS", ["0.1", "86400"], ["0", "-1"]),
]


@pytest.mark.parametrize(("name", "valid", "invalid"), LIMITS, ids=[row[0] for row in LIMITS])
def test_limits(name: str, valid: list[str], invalid: list[str]) -> None:
    for value in valid:
        assert getattr(make_settings(**{name: value}), name.lower()) is not None
    for value in invalid:
        reported = faults(**{name: value})
        assert set(reported) == {name}, value
        assert re.fullmatch(r"[ -~]+", reported[name])
        shown = re.search(rf"(?<![\w.]){re.escape(value)}(?![\w.])", reported[name])
        assert not shown or len(value) < 4


@pytest.mark.parametrize(
    "content", [b"", b"x\0\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_certificates_is_a_fault(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ca"
    path.write_bytes(content)
    demand = "must be a file with PEM certificates that can be read"
    assert faults(SSL_CERT_FILE=str(path)) == {"SSL_CERT_FILE": demand}
    assert faults(SSL_CERT_FILE="a\0b") == {"SSL_CERT_FILE": demand}
    folder = "the file cannot be read (Is a directory)"
    assert faults(SSL_CERT_FILE=str(tmp_path)) == {"SSL_CERT_FILE": folder}


@pytest.mark.parametrize(
    ("option", "verify", "check_hostname"),
    [
        ("", True, True),
        *[(f"?ssl_check_hostname={text}", True, True) for text in ("true", "1", "YES")],
        *[(f"?ssl_check_hostname={text}", True, False) for text in ("False", "0", "no")],
        *[(f"?ssl_cert_reqs={text}", True, True) for text in ("required", "optional")],
        ("?ssl_cert_reqs=none", False, True),
    ],
)
def test_tls_options_of_redis(option: str, *, verify: bool, check_hostname: bool) -> None:
    tls = parse_redis_url(f"rediss://h{option}").tls
    assert tls == TlsOptions("", "", "", verify, check_hostname)


def test_repr_omits_secrets() -> None:
    proxy = "http://user:word@h:1"
    settings = make_settings(
        AUDIT_HASH_KEY="hash-key" * 4, REDIS_URL="redis://:pass@h", HTTPS_PROXY=proxy
    )
    shown = repr(settings)
    for secret in (PRIVATE_KEY, SECRET, "hash-key", "pass@", "word"):
        assert secret not in shown
    assert PUBLIC_KEY in shown


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        make_settings().port = 1  # type: ignore[misc]  # that is the point


def test_a_duplicate_in_the_file_is_a_fault_even_when_the_environment_wins(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("PORT=1\nJWT_AUDIENCE=voice\n\nJWT_AUDIENCE=\n\x1b[31m=1\n\x1b[31m=2\n")
    with pytest.raises(SettingsError) as caught:
        load_configuration({**VARIABLES, "JWT_AUDIENCE": "voice"}, dotenv)
    assert caught.value.faults == [
        "JWT_AUDIENCE: is given more than once in .env, on lines 2 and 4; keep one",
        "\\x1b[31m: is given more than once in .env, on lines 5 and 6; keep one",
    ]


def test_a_duplicate_counts_as_given(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text('JWT_SECRET="unclosed\nVAPI_API_KEY=\nVAPI_API_KEY=\n')
    variables = {
        name: value
        for name, value in VARIABLES.items()
        if name not in {"JWT_SECRET", "VAPI_API_KEY"}
    }
    with pytest.raises(SettingsError) as caught:
        load_settings(variables, dotenv)
    assert [fault.split(": ")[0] for fault in caught.value.faults] == ["JWT_SECRET", "VAPI_API_KEY"]


def test_warnings_are_returned_logged_and_part_of_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warning = "JWT_AUDIANCE: unknown; did you mean JWT_AUDIENCE?"
    variables = {**VARIABLES, "JWT_AUDIANCE": "voice"}
    assert load_configuration(variables, NO_FILE).warnings == (warning,)
    assert caplog.records == []
    load_settings(variables, NO_FILE)
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (logging.WARNING, warning)
    ]
    with pytest.raises(SettingsError) as caught:
        load_settings({**variables, "PORT": "x"}, NO_FILE)
    assert caught.value.warnings == (warning,)
