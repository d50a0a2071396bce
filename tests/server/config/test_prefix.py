"""`load_settings(prefix=...)` in a host application, whose `.env` has other lines too."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from rig.service import SECRET, VARIABLES
from server.config import load_settings
from server.config.loader import SettingsError, load_configuration

PREFIX = "VAPI_SESSIONS_"
OURS = "".join(f"{PREFIX}{name}={value}\n" for name, value in VARIABLES.items())
LATER = OURS.replace(f"{PREFIX}PORT=0\n", "")
THEIRS = b"""PORT=x
PORT=y
DATABASE URL=postgres://
JWT_SECRET='short
RATE_LIMIT
caf\xe9
JWT_AUDIANCE=theirs
"""


def write(folder: Path, content: bytes) -> Path:
    path = folder / ".env"
    path.write_bytes(content)
    return path


def faults(path: Path, environ: Mapping[str, str], prefix: str = PREFIX) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, path, prefix=prefix)
    return caught.value.faults


def test_only_names_with_the_prefix_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, THEIRS + OURS.encode() + b"LOG_LEVEL=nonsense\n")
    environ = {"PORT": "x", "JWT_SECRET": "short", f"{PREFIX}RATE_LIMIT": "5/day"}
    settings = load_settings(environ, path, prefix=PREFIX)
    assert (settings.jwt_secret, settings.rate_limit) == (SECRET.encode(), "5/day")
    assert caplog.messages == []


def test_faults_and_warnings_have_the_prefix(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"")
    path = write(tmp_path, THEIRS)
    environ = {
        "VAPI_SESSIONS_PORT": "x",
        "VAPI_SESSIONS_VAPI_API_KEY": "same",
        "VAPI_SESSIONS_VAPI_PUBLIC_API_KEY": "same",
        "VAPI_SESSIONS_AUDIT_HASH_KEY_FILE": str(secret),
        "VAPI_SESSIONS_JWT_AUDIANCE": "voice",
    }
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, path, prefix=PREFIX)
    assert caught.value.faults == [
        "VAPI_SESSIONS_AUDIT_HASH_KEY_FILE: the file is empty",
        (
            "VAPI_SESSIONS_JWT_SECRET: set VAPI_SESSIONS_JWT_SECRET, "
            "VAPI_SESSIONS_JWT_PUBLIC_KEY or VAPI_SESSIONS_JWT_JWKS_URL"
        ),
        "VAPI_SESSIONS_PORT: must be a whole number",
        "VAPI_SESSIONS_VAPI_ASSISTANT_ID: is required",
        (
            "VAPI_SESSIONS_VAPI_PUBLIC_API_KEY: must differ from VAPI_SESSIONS_VAPI_API_KEY, "
            "which never leaves the service"
        ),
    ]
    assert caught.value.warnings == (
        "VAPI_SESSIONS_JWT_AUDIANCE: unknown; did you mean VAPI_SESSIONS_JWT_AUDIENCE?",
    )


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("VAPI_SESSIONS_PORT", ".env: cannot be read on line 8 of .env; write NAME=value"),
        (
            "VAPI_SESSIONS_PORT='1",
            (
                "VAPI_SESSIONS_PORT: cannot be read on line 8 of .env; "
                "close the quote and end the line"
            ),
        ),
    ],
)
def test_our_own_lines_must_be_readable(tmp_path: Path, line: str, fault: str) -> None:
    path = write(tmp_path, THEIRS + f"{line}\n{LATER}".encode())
    assert faults(path, {}) == [fault]


def test_without_a_prefix_lines_with_other_names_are_no_faults(tmp_path: Path) -> None:
    theirs = b"DATABASE URL=postgres://\nTHEIRS='x\nOTHER\ncaf\xe9\nA=1\nA=2\n"
    path = write(tmp_path, theirs)
    assert load_settings(VARIABLES, path).jwt_secret == SECRET.encode()
    with pytest.raises(SettingsError):
        load_configuration(VARIABLES, path)
    path = write(tmp_path, theirs + b"PORT\n")
    assert faults(path, VARIABLES, "") == [
        ".env: cannot be read on line 7 of .env; write NAME=value"
    ]


def test_an_unreadable_file_is_a_fault(tmp_path: Path) -> None:
    environ = {PREFIX + name: value for name, value in VARIABLES.items()}
    assert faults(tmp_path, environ) == [f"{tmp_path}: cannot be read (Is a directory)"]
