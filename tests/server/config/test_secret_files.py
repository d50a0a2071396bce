"""Secrets in files: `NAME_FILE` for each secret, read byte for byte."""

from dataclasses import fields
from pathlib import Path

import pytest

from rig.service import SECRET, VARIABLES, make_settings
from server.config import Settings, load_settings
from server.config.keys import load_public_keys
from server.config.loader import SettingsError
from server.config.settings import SECRETS
from server.config.sources import MAX_FILE_BYTES, read_secret_files
from tests import pems
from tests.server.config.support import faults

PEM = pems.public(pems.RSA).rstrip()


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


CONTENTS = {
    "VAPI_API_KEY": "55555555-5555-4555-8555-555555555555",
    "JWT_SECRET": "s" * 32,
    "JWT_PUBLIC_KEY": PEM,
    "REDIS_URL": "redis://:password@127.0.0.1:6379/0",
    "AUDIT_HASH_KEY": "h" * 32,
}


@pytest.mark.parametrize(("name", "content"), CONTENTS.items())
def test_a_secret_is_read_from_its_file(tmp_path: Path, name: str, content: str) -> None:
    variables = {"JWT_SECRET": ""} if name == "JWT_PUBLIC_KEY" else {}
    direct = make_settings(**{**variables, name: content})
    from_file = {name: "", f"{name}_FILE": file(tmp_path, content + "\n")}
    assert make_settings(**{**variables, **from_file}) == direct


def test_the_previous_secret_is_read_from_its_file(tmp_path: Path) -> None:
    settings = make_settings(JWT_SECRET_PREVIOUS_FILE=file(tmp_path, "p" * 32))
    assert settings.jwt_secret_previous == b"p" * 32


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
    variables = {"JWT_SECRET_FILE": file(tmp_path, content)}
    assert read_secret_files(variables, SECRETS) == ({"JWT_SECRET": value}, {})


def test_the_bytes_of_a_file_are_the_bytes_of_the_secret(tmp_path: Path) -> None:
    secret = b"\xff\x00" + b"x" * 30
    path = file(tmp_path, secret)
    assert make_settings(JWT_SECRET="", JWT_SECRET_FILE=path).jwt_secret == secret


def test_the_dotenv_file_can_name_a_secret_file(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"JWT_SECRET_FILE={file(tmp_path, 's' * 32)}\n")
    variables = {name: value for name, value in VARIABLES.items() if name != "JWT_SECRET"}
    assert load_settings(variables, dotenv).jwt_secret == b"s" * 32


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_setting_both_is_a_fault(tmp_path: Path, name: str) -> None:
    both = {name: "x" * 32, f"{name}_FILE": file(tmp_path, "x" * 32)}
    assert faults(**both)[f"{name}_FILE"] == f"conflicts with {name}: set only one of the two"


def test_setting_both_in_different_places_is_a_fault(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"JWT_SECRET_FILE={file(tmp_path, SECRET)}\n")
    with pytest.raises(SettingsError, match="JWT_SECRET_FILE: conflicts with JWT_SECRET"):
        load_settings(VARIABLES, dotenv)


@pytest.mark.parametrize("content", ["", "\n", "\r\n"])
@pytest.mark.parametrize("name", sorted(SECRETS))
def test_an_empty_file_is_a_fault(tmp_path: Path, name: str, content: str) -> None:
    reported = faults(**{name: "", f"{name}_FILE": file(tmp_path, content)})
    assert reported[f"{name}_FILE"] == "the file is empty"


def test_an_empty_file_variable_counts_as_unset() -> None:
    assert make_settings(JWT_SECRET_FILE="") == make_settings()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("short", "must be at least 32 bytes"),
        (f"{'s' * 32}\n\n", "must not begin or end with white space"),
        (f" {'s' * 32}", "must not begin or end with white space"),
        ("x" * (MAX_FILE_BYTES + 1), "the file is longer than 65536 bytes"),
    ],
)
def test_the_fault_of_a_file_names_the_file_variable(
    tmp_path: Path, content: str, message: str
) -> None:
    reported = faults(JWT_SECRET="", JWT_SECRET_FILE=file(tmp_path, content))
    assert list(reported) == ["JWT_SECRET_FILE"]
    assert message in reported["JWT_SECRET_FILE"]


def test_an_unreadable_file_is_the_only_fault(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "absent", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        reported = faults(VAPI_API_KEY="", VAPI_API_KEY_FILE=str(path))
        assert reported == {"VAPI_API_KEY_FILE": f"the file cannot be read ({reason})"}
    assert faults(JWT_SECRET="", JWT_SECRET_FILE="\0") == {
        "JWT_SECRET_FILE": "must be the path of a file"
    }


def test_a_second_key_source_in_a_file_is_a_fault(tmp_path: Path) -> None:
    jwks = {"JWT_JWKS_URL": "https://id.test/jwks", "JWT_ISSUER": "us"}
    reported = faults(JWT_PUBLIC_KEY_FILE=file(tmp_path, PEM), **jwks)
    assert list(reported) == ["JWT_JWKS_URL"]
    assert reported["JWT_JWKS_URL"].startswith("conflicts with JWT_PUBLIC_KEY")


@pytest.mark.parametrize("text", [PEM.replace("\n", "\\n"), PEM.replace("\n", "\\r\\n")])
def test_a_pem_may_have_escaped_line_breaks(tmp_path: Path, text: str) -> None:
    assert make_settings(JWT_SECRET="", JWT_PUBLIC_KEY=text).jwt_public_key == PEM
    path = file(tmp_path, text)
    assert make_settings(JWT_SECRET="", JWT_PUBLIC_KEY_FILE=path).jwt_public_key == PEM


@pytest.mark.parametrize("name", ["VAPI_API_KEY", "JWT_SECRET", "REDIS_URL", "AUDIT_HASH_KEY"])
@pytest.mark.parametrize("around", ["{} ", "\t{}", "{}\n", "{}\u00a0", "\r{}"])
def test_white_space_around_a_secret_is_a_fault(name: str, around: str) -> None:
    value = around.format({**VARIABLES, **CONTENTS}[name])
    assert faults(**{name: value}) == {name: "must not begin or end with white space"}


def test_white_space_around_a_pem_is_ignored() -> None:
    settings = make_settings(JWT_SECRET="", JWT_PUBLIC_KEY=f"\n {PEM} \n")
    assert len(load_public_keys(settings.jwt_public_key)) == 1
