"""The proxy and the certificates: names in either case, and files that cannot be used."""

from pathlib import Path

import pytest

from rig.service import NO_FILE, VARIABLES
from server.config.loader import SettingsError, load_configuration, load_settings
from server.master_configuration import find_changed, find_refusals
from tests.egress import Authority

UPPER, LOWER = {"HTTPS_PROXY": "a:1", "NO_PROXY": "a"}, {"https_proxy": "b:1", "no_proxy": "b"}
NO_CERTIFICATES = "must be a file with PEM certificates that can be read"
NONE = {"https_proxy": "", "no_proxy": ""}


@pytest.mark.parametrize(
    ("environ", "in_file", "expected"),
    [
        (UPPER, {}, "a"),
        (LOWER, {}, "b"),
        (UPPER | LOWER, {}, "b"),
        (UPPER | NONE, {}, "a"),
        ({}, UPPER, "a"),
        ({}, LOWER, "b"),
        (UPPER, LOWER, "a"),
    ],
)
def test_names_are_read_in_either_case(
    tmp_path: Path, environ: dict[str, str], in_file: dict[str, str], expected: str
) -> None:
    path = tmp_path / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in in_file.items()))
    loaded = load_configuration(
        {**VARIABLES, "HTTP_PROXY": "x", "http_proxy": "x", **environ}, path
    )
    assert (loaded.settings.https_proxy, loaded.settings.no_proxy) == (f"{expected}:1", expected)
    assert loaded.warnings == ()
    assert load_settings({**VARIABLES, **environ}, path) == loaded.settings
    prefixed = {f"P_{name}": value for name, value in {**VARIABLES, **environ}.items()}
    path.write_text("".join(f"P_{name}={value}\n" for name, value in in_file.items()))
    assert load_settings(prefixed, path, prefix="P_") == loaded.settings


def test_dropping_a_name_in_lower_case_on_purpose_is_no_refusal(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("https_proxy=p:1\n")
    last = load_configuration(VARIABLES, path)
    path.write_text("https_proxy=\n")
    new = load_configuration(VARIABLES, path)
    assert list(find_refusals(last, new)) == []
    assert find_changed(last.settings, new.settings) == ["HTTPS_PROXY"]
    path.write_text("")
    assert list(find_refusals(last, load_configuration(VARIABLES, path))) == [
        "https_proxy: is missing in .env; write https_proxy= to drop it"
    ]


def test_another_bundle_in_the_same_file_is_a_change(tmp_path: Path) -> None:
    path = Authority(tmp_path).bundle
    variables = {**VARIABLES, "SSL_CERT_FILE": str(path)}
    last = load_settings(variables, NO_FILE)
    assert "# Soci" in last.ssl_cert_file
    path.write_bytes(Authority(tmp_path).bundle.read_bytes())
    assert find_changed(last, load_settings(variables, NO_FILE)) == ["SSL_CERT_FILE"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "the file cannot be read (Is a directory)"),
        (b"", NO_CERTIFICATES),
        (b"x\0\xff", NO_CERTIFICATES),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            NO_CERTIFICATES,
        ),
    ],
)
def test_a_file_without_certificates_is_a_fault(
    tmp_path: Path, content: bytes | None, fault: str
) -> None:
    path = tmp_path / "ca"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings({**VARIABLES, "SSL_CERT_FILE": str(path)}, NO_FILE)
    assert caught.value.faults == [f"SSL_CERT_FILE: {fault}"]


def test_a_path_that_no_file_has_is_a_fault() -> None:
    with pytest.raises(SettingsError, match=f"^SSL_CERT_FILE: {NO_CERTIFICATES}$"):
        load_settings({**VARIABLES, "SSL_CERT_FILE": "a\0b"}, NO_FILE)
