"""The sources: the environment, `.env` and the files of secrets; prefixes and misspelled names."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from rig.service import NO_FILE, SECRET, VARIABLES, make_settings
from server.config import Settings, load_settings
from server.config.keys import load_public_keys
from server.config.loader import SettingsError, load_configuration
from server.config.settings import SECRETS
from server.config.settings import VARIABLES as NAMES
from server.config.sources import MAX_FILE_BYTES, find_misspelled, printable, read_sources
from tests import pems
from tests.server.config.support import faults

PEM = pems.public(pems.RSA).rstrip()


@pytest.mark.parametrize(
    ("environ", "in_file", "value"),
    [
        ({"A": "environment"}, "A=file", "environment"),
        ({}, "A=file", "file"),
        ({"A": ""}, "A=file", "file"),
        ({"A": ""}, "", None),
        ({}, "A=", None),
        ({}, "", None),
    ],
)
def test_precedence(
    tmp_path: Path, environ: dict[str, str], in_file: str, value: str | None
) -> None:
    path = tmp_path / ".env"
    path.write_text(in_file)
    assert read_sources(environ, path).values.get("A") == value


@pytest.mark.parametrize(
    "value",
    ["${HOME}", "$HOME", "a #b", "# b", " spaces ", '"quoted"', "a\\nb", "a\nb", "a=b", "\udcff"],
)
def test_the_environment_is_taken_byte_for_byte(value: str) -> None:
    assert read_sources({"A": value, "HOME": "expanded"}, NO_FILE).values["A"] == value


def test_by_default_the_environment_and_the_working_directory_are_read(
    tmp_path: Path, unconfigured: pytest.MonkeyPatch
) -> None:
    lines = [f"{name}={value}" for name, value in VARIABLES.items()]
    (tmp_path / ".env").write_text("\n".join([*lines, "LOG_LEVEL=ERROR", "LOG_FORMAT=console"]))
    unconfigured.setenv("LOG_LEVEL", "DEBUG")
    settings = load_settings()
    assert (settings.log_level, settings.log_format) == ("DEBUG", "console")
    (tmp_path / "below").mkdir()
    unconfigured.chdir(tmp_path / "below")
    with pytest.raises(SettingsError):
        load_settings()


UPPER, LOWER = {"HTTPS_PROXY": "a:1", "NO_PROXY": "a"}, {"https_proxy": "b:1", "no_proxy": "b"}


@pytest.mark.parametrize(
    ("environ", "in_file", "expected"),
    [
        (UPPER, {}, "a"),
        (LOWER, {}, "b"),
        (UPPER | LOWER, {}, "b"),
        (UPPER | dict.fromkeys(LOWER, ""), {}, "a"),
        ({}, UPPER, "a"),
        ({}, LOWER, "b"),
        (UPPER, LOWER, "a"),
    ],
)
def test_the_proxy_is_read_in_either_case(
    tmp_path: Path, environ: dict[str, str], in_file: dict[str, str], expected: str
) -> None:
    path = tmp_path / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in in_file.items()))
    theirs = {"HTTP_PROXY": "x", "http_proxy": "x"}
    loaded = load_configuration({**VARIABLES, **theirs, **environ}, path)
    assert (loaded.settings.https_proxy, loaded.settings.no_proxy) == (f"{expected}:1", expected)
    assert loaded.warnings == ()
    assert load_settings({**VARIABLES, **environ}, path) == loaded.settings
    prefixed = {f"P_{name}": value for name, value in {**VARIABLES, **environ}.items()}
    path.write_text("".join(f"P_{name}={value}\n" for name, value in in_file.items()))
    assert load_settings(prefixed, path, prefix="P_") == loaded.settings


# --- files of secrets ------------------------------------------------------------------------


def file(folder: Path, content: bytes | str) -> str:
    """Write a secret's file; return its path."""
    path = folder / "secret"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_the_secrets_of_the_contract_can_be_files() -> None:
    assert {
        "VAPI_API_KEY",
        "JWT_SECRET",
        "JWT_SECRET_PREVIOUS",
        "JWT_PUBLIC_KEY",
        "REDIS_URL",
        "AUDIT_HASH_KEY",
        "AUDIT_HASH_KEY_PREVIOUS",
        "PROOF_KEY",
    } == SECRETS
    assert {item.name.upper() for item in fields(Settings) if not item.repr} == SECRETS | {
        "HTTPS_PROXY",
        "SSL_CERT_FILE",
    }


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b"secret\n\n", "secret\n"),
        (b"secret\r\n\r\n", "secret\r\n"),
        (b"secret\r", "secret\r"),
        (b" ${HOME} '#' \\n \xff\x00 \n", " ${HOME} '#' \\n \udcff\x00 "),
    ],
)
def test_a_file_is_read_byte_for_byte_without_one_line_break(
    tmp_path: Path, content: bytes, value: str
) -> None:
    sources = read_sources({"JWT_SECRET_FILE": file(tmp_path, content)}, NO_FILE)
    assert (sources.values["JWT_SECRET"], sources.faults) == (value, {})


def test_a_secret_is_the_bytes_of_its_file_or_variable(tmp_path: Path) -> None:
    secret = b'"${HOME}" \xff\x00' + b"x" * 30
    path = file(tmp_path, secret)
    assert make_settings(JWT_SECRET="", JWT_SECRET_FILE=path).jwt_secret == secret
    assert make_settings(JWT_SECRET=f"\udcff{SECRET}").jwt_secret == b"\xff" + SECRET.encode()
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"JWT_SECRET_FILE={path}\n")
    assert load_settings({**VARIABLES, "JWT_SECRET": ""}, dotenv).jwt_secret == secret
    with pytest.raises(SettingsError, match=r"^JWT_SECRET_FILE: conflicts with JWT_SECRET: "):
        load_settings(VARIABLES, dotenv)
    assert make_settings(JWT_SECRET_FILE="") == make_settings()


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_every_secret_has_one_source_that_is_not_empty(tmp_path: Path, name: str) -> None:
    variable = f"{name}_FILE"
    both = {name: "x" * 32, variable: file(tmp_path, "x" * 32)}
    assert faults(**both)[variable] == f"conflicts with {name}: set only one of the two"
    for content in ("", "\n", "\r\n"):
        reported = faults(**{name: "", variable: file(tmp_path, content)})
        assert reported[variable] == "the file is empty"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("short", "must be at least 32 bytes for HS256; try openssl rand -base64 48"),
        (f"{'s' * 32}\n\n", "must not begin or end with white space"),
        ("x" * (MAX_FILE_BYTES + 1), "the file is longer than 65536 bytes"),
    ],
)
def test_the_fault_of_a_file_names_the_file_variable(
    tmp_path: Path, content: str, message: str
) -> None:
    path = file(tmp_path, content)
    assert faults(JWT_SECRET="", JWT_SECRET_FILE=path) == {"JWT_SECRET_FILE": message}
    largest = make_settings(JWT_SECRET="", JWT_SECRET_FILE=file(tmp_path, "x" * MAX_FILE_BYTES))
    assert len(largest.jwt_secret) == MAX_FILE_BYTES


def test_an_unreadable_file_is_the_only_fault(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "absent", "the file cannot be read (No such file or directory)"),
        (tmp_path, "the file cannot be read (Is a directory)"),
        ("\0", "must be the path of a file"),
    ):
        reported = faults(VAPI_API_KEY="", VAPI_API_KEY_FILE=str(path))
        assert reported == {"VAPI_API_KEY_FILE": reason}


@pytest.mark.parametrize("text", [PEM.replace("\n", "\\n"), PEM.replace("\n", "\\r\\n")])
def test_a_pem_may_have_escaped_line_breaks_and_white_space_around_it(
    tmp_path: Path, text: str
) -> None:
    assert make_settings(JWT_SECRET="", JWT_PUBLIC_KEY=text).jwt_public_key == PEM
    path = file(tmp_path, text)
    assert make_settings(JWT_SECRET="", JWT_PUBLIC_KEY_FILE=path).jwt_public_key == PEM
    settings = make_settings(JWT_SECRET="", JWT_PUBLIC_KEY=f"\n {PEM} \n")
    assert len(load_public_keys(settings.jwt_public_key)) == 1


@pytest.mark.parametrize("name", ["VAPI_API_KEY", "JWT_SECRET", "REDIS_URL", "AUDIT_HASH_KEY"])
def test_white_space_around_a_secret_is_a_fault(name: str) -> None:
    value = {**VARIABLES, "REDIS_URL": "redis://127.0.0.1", "AUDIT_HASH_KEY": "h" * 32}[name]
    for around in ("{} ", "\t{}", "{}\n", "{}\u00a0", "\r{}"):
        reported = faults(**{name: around.format(value)})
        assert reported == {name: "must not begin or end with white space"}


# --- host applications -----------------------------------------------------------------------

PREFIX = "VAPI_SESSIONS_"
OURS = "".join(f"{PREFIX}{name}={value}\n" for name, value in VARIABLES.items())
THEIRS = b"""PORT=x
PORT=y
DATABASE URL=postgres://
JWT_SECRET='short
RATE_LIMIT
caf\xe9
JWT_AUDIANCE=theirs
"""


def hosted_faults(path: Path, environ: Mapping[str, str], prefix: str = PREFIX) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, path, prefix=prefix)
    return caught.value.faults


def test_only_names_with_the_prefix_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / ".env"
    path.write_bytes(THEIRS + OURS.encode() + b"LOG_LEVEL=nonsense\n")
    environ = {"PORT": "x", "JWT_SECRET": "short", f"{PREFIX}RATE_LIMIT": "5/day"}
    settings = load_settings(environ, path, prefix=PREFIX)
    assert (settings.jwt_secret, settings.rate_limit) == (SECRET.encode(), "5/day")
    assert caplog.messages == []
    path.write_bytes(THEIRS + OURS.replace("PORT=", "PORT='").encode())
    assert hosted_faults(path, {}) == [
        f"{PREFIX}PORT: cannot be read on line 15 of .env; close the quote and end the line"
    ]
    path.write_bytes(THEIRS + f"{OURS}{PREFIX}LOG_LEVEL\n".encode())
    assert hosted_faults(path, {}) == [".env: cannot be read on line 17 of .env; write NAME=value"]


def test_faults_and_warnings_have_the_prefix(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(THEIRS)
    environ = {
        "VAPI_SESSIONS_PORT": "x",
        "VAPI_SESSIONS_VAPI_API_KEY": "same",
        "VAPI_SESSIONS_VAPI_PUBLIC_API_KEY": "same",
        "VAPI_SESSIONS_AUDIT_HASH_KEY_FILE": file(tmp_path, ""),
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


def test_without_a_prefix_lines_with_other_names_are_no_faults(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    theirs = b"DATABASE URL=postgres://\nTHEIRS='x\nOTHER\ncaf\xe9\nA=1\nA=2\n"
    path.write_bytes(theirs)
    assert load_settings(VARIABLES, path).jwt_secret == SECRET.encode()
    with pytest.raises(SettingsError):
        load_configuration(VARIABLES, path)
    path.write_bytes(theirs + b"PORT\n")
    assert hosted_faults(path, VARIABLES, "") == [
        ".env: cannot be read on line 7 of .env; write NAME=value"
    ]


def test_an_unreadable_file_is_a_fault(tmp_path: Path) -> None:
    prefixed = {PREFIX + name: value for name, value in VARIABLES.items()}
    fault = f"{tmp_path}: cannot be read (Is a directory)"
    assert hosted_faults(tmp_path, prefixed) == [fault]
    with pytest.raises(SettingsError) as caught:
        load_configuration(VARIABLES, tmp_path)
    assert caught.value.faults == [fault]


# --- misspelled names ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("JWT_AUDIANCE", "JWT_AUDIENCE"),  # replaced
        ("JWT_AUDIENC", "JWT_AUDIENCE"),  # deleted
        ("JWT_AUDIENCES", "JWT_AUDIENCE"),  # inserted
        ("XJWT_AUDIENCEX", "JWT_AUDIENCE"),  # two inserted
        ("JWT_ADUIENCE", "JWT_AUDIENCE"),  # two neighbours swapped
        ("WT_AUDIENC", "JWT_AUDIENCE"),  # two deleted
        ("jwt_audience", "JWT_AUDIENCE"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("VAPI_PUBLIC_KEY", None),
        ("JWT_SECRT_FILE", "JWT_SECRET_FILE"),
        ("PROOF_KEYFILE", "PROOF_KEY_FILE"),
        ("VAPI_KEY", None),
        ("AXX_AUDIENCE", None),
        ("IMPORT", "PORT"),
        ("PORTS", None),  # five characters
        ("JWT_ISSUER_FILE", None),  # not a secret
        ("", None),
    ],
)
def test_the_closest_variable_is_suggested(name: str, meant: str | None) -> None:
    expected = [] if meant is None else [f"{name}: unknown; did you mean {meant}?"]
    assert list(find_misspelled([name], NAMES)) == expected


def test_suggestions(tmp_path: Path) -> None:
    assert list(find_misspelled(NAMES, NAMES)) == []
    (warning,) = find_misspelled(["NAME_CX"], {"NAME_AB", "NAME_CD"})  # the fewest edits win
    assert warning == "NAME_CX: unknown; did you mean NAME_CD?"
    (warning,) = find_misspelled(["JWT_AUDI\x1bNCE"], NAMES)
    assert warning == "JWT_AUDI\\x1bNCE: unknown; did you mean JWT_AUDIENCE?"
    assert printable("A\n\udcffé") == "A\\n\\udcff\\xe9"
    path = tmp_path / ".env"
    path.write_text("JWT_AUDIANCE=")
    assert read_sources({"LOGLEVEL": "x"}, path).warnings == (
        "JWT_AUDIANCE: unknown; did you mean JWT_AUDIENCE?",
        "LOGLEVEL: unknown; did you mean LOG_LEVEL?",
    )
