"""The settings: defaults, what is required, and every fault in one report without a value."""

import re
from dataclasses import MISSING, FrozenInstanceError, fields
from pathlib import Path

import pytest

import server
from server.config import Settings, load_settings
from server.config.loader import SettingsError
from tests.support import NO_FILE, PRIVATE_KEY, PUBLIC_KEY, SECRET, VARIABLES, make_settings

EXAMPLE = Path(server.__file__).parent.parent / "config.example.env"
ASSIGNED = re.compile(r"^([A-Z_]+)=(.*)$", re.MULTILINE)


def faults(**variables: str) -> dict[str, str]:
    """Load with these changes; give each fault by the variable it names."""
    with pytest.raises(SettingsError) as caught:
        load_settings({**VARIABLES, **variables}, NO_FILE)
    return dict(fault.split(": ", 1) for fault in caught.value.faults)


def test_the_least_there_must_be_is_enough() -> None:
    least = {
        "VAPI_API_KEY": PRIVATE_KEY,
        "VAPI_PUBLIC_API_KEY": PUBLIC_KEY,
        "VAPI_ASSISTANT_ID": "assistant",
        "JWT_SECRET": SECRET,
    }
    settings = load_settings(least, NO_FILE)
    given = {name.lower() for name in least} | {"jwt_algorithms"}
    for field in fields(Settings):
        if field.name not in given:
            assert getattr(settings, field.name) == field.default
    assert settings.jwt_algorithms == ("HS256",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vapi_credential", "public_key"),
        ("vapi_token_ttl_seconds", 120),
        ("vapi_allowed_origins", ()),
        ("vapi_base_url", "https://api.vapi.ai"),
        ("vapi_check_seconds", 30),
        ("vapi_timeout_seconds", 2),
        ("jwt_issuer", ""),
        ("jwt_audience", ()),
        ("jwt_leeway_seconds", 5),
        ("jwt_max_lifetime_seconds", 0),
        ("jwt_patient_id_claim", "id"),
        ("jwt_role_claim", "type"),
        ("jwt_patient_role", "patient"),
        ("jwt_required_scope", ""),
        ("jwks_cache_seconds", 600),
        ("jwks_stale_seconds", 86400),
        ("jwks_cooldown_seconds", 5),
        ("host", "0.0.0.0"),
        ("port", 8080),
        ("session_budget_seconds", 3),
        ("max_body_bytes", 16384),
        ("max_connections", 10000),
        ("trusted_proxies", ()),
        ("sessions_paused", False),
        ("proof_key", ""),
        ("rate_limit", "30/minute"),
        ("redis_url", ""),
        ("redis_failure", "refuse"),
        ("cors_allowed_origins", ()),
        ("metrics_enabled", False),
        ("audit_hash_key", b""),
        ("log_level", "INFO"),
        ("log_format", "json"),
        ("shutdown_grace_seconds", 10),
    ],
)
def test_the_defaults_are_those_of_the_contract(name: str, value: object) -> None:
    (field,) = (field for field in fields(Settings) if field.name == name)
    assert field.default == value


def test_the_example_names_every_variable_once_and_nothing_else() -> None:
    names = [name for name, _ in ASSIGNED.findall(EXAMPLE.read_text())]
    assert sorted(names) == sorted(field.name.upper() for field in fields(Settings))


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    required = {"VAPI_API_KEY": "a", "VAPI_ASSISTANT_ID": "b", "VAPI_PUBLIC_API_KEY": "c"}
    required["JWT_SECRET"] = SECRET
    assert load_settings(required, EXAMPLE) == load_settings(required, NO_FILE)
    shown = dict(ASSIGNED.findall(EXAMPLE.read_text()))
    for field in fields(Settings):
        is_empty = field.default in {MISSING, "", (), b""}
        assert bool(shown[field.name.upper()]) != is_empty, field.name


def test_nothing_set_names_all_that_is_required() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({}, NO_FILE)
    assert [fault.split(":")[0] for fault in caught.value.faults] == [
        "JWT_SECRET",
        "VAPI_API_KEY",
        "VAPI_ASSISTANT_ID",
        "VAPI_PUBLIC_API_KEY",
    ]
    assert str(caught.value) == "\n".join(caught.value.faults)


def test_all_faults_come_in_one_report_one_line_each() -> None:
    told = faults(
        PORT="x",
        RATE_LIMIT="often",
        LOG_LEVEL="loud",
        VAPI_BASE_URL="http://api.vapi.ai",
        VAPI_ASSISTANT_ID="",
        JWT_SECRET="short",
        CORS_ALLOWED_ORIGINS="*",
        METRICS_ENABLED="perhaps",
    )
    assert set(told) == {
        "PORT",
        "RATE_LIMIT",
        "LOG_LEVEL",
        "VAPI_BASE_URL",
        "VAPI_ASSISTANT_ID",
        "JWT_SECRET",
        "CORS_ALLOWED_ORIGINS",
        "METRICS_ENABLED",
    }
    assert all("\n" not in text for text in told.values())


LIMITS = [
    ("VAPI_TOKEN_TTL_SECONDS", ["10", "3600"], ["9", "3601", "10.5", "x"]),
    ("VAPI_CHECK_SECONDS", ["0", "0.5", "3600"], ["-1", "3601", "nan", "inf"]),
    ("JWT_LEEWAY_SECONDS", ["0", "300"], ["-0.1", "300.1"]),
    ("JWT_MAX_LIFETIME_SECONDS", ["0", "86400"], ["-1"]),
    ("PORT", ["0", "1", "65535"], ["-1", "65536", "http"]),
    ("MAX_BODY_BYTES", ["1", "16777216"], ["0", "16777217"]),
    ("SESSION_BUDGET_SECONDS", ["2.5", "60"], ["0", "-1", "1e9"]),
    ("SHUTDOWN_GRACE_SECONDS", ["0", "3600"], ["-1"]),
    ("JWKS_CACHE_SECONDS", ["1"], ["0", "-1"]),
    ("JWKS_STALE_SECONDS", ["1"], ["0"]),
    ("JWKS_COOLDOWN_SECONDS", ["1"], ["0"]),
    ("VAPI_CREDENTIAL", ["public_key", "session_token"], ["private_key", "PUBLIC_KEY"]),
    ("REDIS_FAILURE", ["refuse", "serve"], ["ignore"]),
    ("LOG_LEVEL", ["DEBUG", "CRITICAL"], ["debug", "TRACE"]),
    ("LOG_FORMAT", ["json", "console"], ["text"]),
    ("METRICS_ENABLED", ["true", "false", "True"], ["1", "on"]),
    ("RATE_LIMIT", ["1/second", "30/day"], ["0/minute", "30 per minute"]),
    ("VAPI_BASE_URL", ["https://a.test/x", "http://127.0.0.1:1"], ["http://a.test", "a.test"]),
    ("REDIS_URL", ["redis://h", "unix:///x"], ["http://h"]),
    ("VAPI_API_KEY", ["a-b"], ["a b", "a\n", "é"]),
    ("VAPI_ASSISTANT_ID", ["a-b"], ["a b"]),
    ("VAPI_PUBLIC_API_KEY", ["a-b"], ["a b"]),
    ("VAPI_ORG_ID", ["a-b"], ["a b"]),
    ("CORS_ALLOWED_ORIGINS", ["https://a.test, https://b.test"], ["*", "https://a.test/"]),
    ("JWT_ISSUER", ["https://a.test", "a b"], ["a\nb"]),
]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, good, _ in LIMITS for value in good]
)
def test_a_value_inside_the_limits_is_taken(name: str, value: str) -> None:
    assert isinstance(make_settings(**{name: value}), Settings)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, _, bad in LIMITS for value in bad]
)
def test_a_value_outside_the_limits_is_a_fault_of_its_variable(name: str, value: str) -> None:
    told = faults(**{name: value})
    assert set(told) == {name}
    assert not re.search(rf"(?<![\w.]){re.escape(value)}(?![\w.])", told[name]) or len(value) < 3


def test_secrets_stay_out_of_what_python_shows() -> None:
    settings = make_settings(AUDIT_HASH_KEY="hash-key", REDIS_URL="redis://:pass@h")
    shown = repr(settings)
    for secret in (PRIVATE_KEY, SECRET, "hash-key", "pass@"):
        assert secret not in shown
    assert PUBLIC_KEY in shown


def test_settings_never_change() -> None:
    with pytest.raises(FrozenInstanceError):
        make_settings().port = 1  # type: ignore[misc]  # that is the point


def test_without_arguments_environment_and_folder_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in fields(Settings):
        monkeypatch.delenv(field.name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    lines = [f"{name}={value}" for name, value in VARIABLES.items()]
    (tmp_path / ".env").write_text("\n".join([*lines, "LOG_LEVEL=ERROR", "LOG_FORMAT=console"]))
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    settings = load_settings()
    assert (settings.log_level, settings.log_format) == ("DEBUG", "console")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(VARIABLES, tmp_path)


def test_a_secret_is_taken_byte_for_byte() -> None:
    secret = '"${HOME}" #\udcff' + "x" * 32
    assert make_settings(JWT_SECRET=secret).jwt_secret == secret.encode("utf-8", "surrogateescape")
