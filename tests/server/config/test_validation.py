"""The rules that relate several variables."""

import pytest

from rig.service import PRIVATE_KEY, make_settings
from tests import pems
from tests.server.config.support import faults
from tests.table import NOWHERE

PEM = pems.public(pems.RSA)
JWKS = f"http://{NOWHERE}/jwks"
USES_JWKS = {"JWT_SECRET": "", "JWT_JWKS_URL": JWKS, "JWT_ISSUER": "us"}


@pytest.mark.parametrize(
    ("variables", "algorithms"),
    [
        ({}, ("HS256",)),
        ({"JWT_ALGORITHMS": "HS512, HS256"}, ("HS512", "HS256")),
        ({"JWT_SECRET": "", "JWT_PUBLIC_KEY": PEM}, ("RS256", "ES256")),
        ({"JWT_PUBLIC_KEY": PEM}, ("HS256", "RS256", "ES256")),
        ({"JWT_JWKS_URL": JWKS, "JWT_ISSUER": "us"}, ("HS256", "RS256", "ES256")),
        ({"JWT_SECRET": "", "JWT_JWKS_URL": JWKS, "JWT_ISSUER": "us"}, ("RS256", "ES256")),
        (
            {"JWT_SECRET": "", "JWT_PUBLIC_KEY": PEM, "JWT_ALGORITHMS": "PS512"},
            ("PS512",),
        ),
    ],
)
def test_default_algorithms(variables: dict[str, str], algorithms: tuple[str, ...]) -> None:
    assert make_settings(**variables).jwt_algorithms == algorithms


@pytest.mark.parametrize(
    "variables",
    [
        {"VAPI_CREDENTIAL": "session_token", "VAPI_PUBLIC_API_KEY": ""},
        {"VAPI_CREDENTIAL": "public_key", "VAPI_ORG_ID": ""},
        {"SESSION_BUDGET_SECONDS": "0.2", "VAPI_TIMEOUT_SECONDS": "0.1"},
        {"JWT_SECRET": "x" * 32, "JWT_SECRET_PREVIOUS": "y" * 32},
        {"JWT_SECRET_PREVIOUS": "y" * 32, "JWT_JWKS_URL": JWKS, "JWT_ISSUER": "us"},
        {"JWT_SECRET": "x" * 48, "JWT_ALGORITHMS": "HS384"},
        {"JWT_SECRET": "x" * 64, "JWT_ALGORITHMS": "HS512"},
        {
            "JWT_PUBLIC_KEY": pems.public(pems.ED25519),
            "JWT_ALGORITHMS": "Ed25519",
            "JWT_SECRET": "",
        },
        {"VAPI_CREDENTIAL": "session_token", "VAPI_API_KEY": "x" * 32},
        {"VAPI_CREDENTIAL": "public_key", "VAPI_API_KEY": "x"},
        {"JWT_SECRET": "", "JWT_JWKS_URL": f"{JWKS}?appid=1", "JWT_ISSUER": "us"},
    ],
)
def test_valid_combinations(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        assert str(getattr(make_settings(**variables), name.lower())).strip("b'(),") == value


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"JWT_SECRET": ""}, {"JWT_SECRET"}),
        ({"JWT_JWKS_URL": JWKS}, {"JWT_ISSUER"}),
        ({"JWT_JWKS_URL": JWKS, "JWT_ISSUER": "us", "JWT_PUBLIC_KEY": PEM}, {"JWT_JWKS_URL"}),
        ({"JWT_PUBLIC_KEY": PEM, "JWT_ALGORITHMS": "RS256"}, {"JWT_ALGORITHMS"}),
        ({"JWT_PUBLIC_KEY": PEM, "JWT_ALGORITHMS": "HS256"}, {"JWT_ALGORITHMS"}),
        ({"JWT_PUBLIC_KEY": PEM, "JWT_SECRET": "x" * 31}, {"JWT_SECRET"}),
        ({"JWT_PUBLIC_KEY": "x"}, {"JWT_PUBLIC_KEY"}),
        ({**USES_JWKS, "JWT_SECRET": "x" * 32, "JWT_ALGORITHMS": "ES256"}, {"JWT_ALGORITHMS"}),
        ({"JWT_PUBLIC_KEY_FILE": "/nonexistent"}, {"JWT_PUBLIC_KEY_FILE"}),
        ({"JWT_SECRET_FILE": "/nonexistent"}, {"JWT_SECRET_FILE"}),
        ({"JWT_SECRET": "", "JWT_PUBLIC_KEY": PEM + pems.private(pems.P256)}, {"JWT_PUBLIC_KEY"}),
        ({"JWT_SECRET": "", "JWT_PUBLIC_KEY": PEM + pems.public(pems.P384)}, {"JWT_ALGORITHMS"}),
        ({"JWT_SECRET": "", "JWT_PUBLIC_KEY": PEM * 9}, {"JWT_PUBLIC_KEY"}),
        (
            {"JWT_SECRET": "", "JWT_PUBLIC_KEY": PEM, "JWT_JWKS_URL": JWKS, "JWT_ISSUER": "us"},
            {"JWT_JWKS_URL"},
        ),
        ({"JWT_SECRET": "", "JWT_JWKS_URL": JWKS}, {"JWT_ISSUER"}),
        ({"JWT_SECRET": "", "JWT_JWKS_URL": "http://a.test"}, {"JWT_JWKS_URL", "JWT_ISSUER"}),
        ({"JWT_SECRET": "x" * 31}, {"JWT_SECRET"}),
        ({"JWT_SECRET": "x" * 47, "JWT_ALGORITHMS": "HS384"}, {"JWT_SECRET"}),
        ({"JWT_SECRET": "x" * 63, "JWT_ALGORITHMS": "HS512,HS256"}, {"JWT_SECRET"}),
        (
            {"JWT_SECRET_PREVIOUS": "x" * 63, "JWT_ALGORITHMS": "HS256,HS512"},
            {"JWT_SECRET_PREVIOUS"},
        ),
        ({"JWT_SECRET": PEM}, {"JWT_SECRET"}),
        ({"JWT_SECRET": f"ssh-rsa {'A' * 40}"}, {"JWT_SECRET"}),
        ({"JWT_SECRET": "", "JWT_PUBLIC_KEY": "x"}, {"JWT_PUBLIC_KEY"}),
        ({"JWT_SECRET": "", "JWT_PUBLIC_KEY": pems.private(pems.RSA)}, {"JWT_PUBLIC_KEY"}),
        ({"JWT_SECRET": "", "JWT_PUBLIC_KEY": pems.public(pems.WEAK)}, {"JWT_PUBLIC_KEY"}),
        ({"JWT_ALGORITHMS": "RS256"}, {"JWT_ALGORITHMS"}),
        ({"JWT_ALGORITHMS": "HS256,RS256"}, {"JWT_ALGORITHMS"}),
        ({"JWT_ALGORITHMS": "none"}, {"JWT_ALGORITHMS"}),
        ({"JWT_ALGORITHMS": "hs256"}, {"JWT_ALGORITHMS"}),
        (
            {"JWT_SECRET": "", "JWT_PUBLIC_KEY": PEM, "JWT_ALGORITHMS": "HS256"},
            {"JWT_ALGORITHMS"},
        ),
        (
            {"JWT_SECRET": "", "JWT_PUBLIC_KEY": PEM, "JWT_ALGORITHMS": "ES256"},
            {"JWT_ALGORITHMS"},
        ),
        (
            {
                "JWT_SECRET": "",
                "JWT_PUBLIC_KEY": pems.public(pems.ED448),
                "JWT_ALGORITHMS": "Ed25519",
            },
            {"JWT_ALGORITHMS"},
        ),
        (
            {
                "JWT_SECRET": "",
                "JWT_JWKS_URL": JWKS,
                "JWT_ISSUER": "us",
                "JWT_ALGORITHMS": "RS256,HS256",
            },
            {"JWT_ALGORITHMS"},
        ),
        ({"VAPI_PUBLIC_API_KEY": ""}, {"VAPI_PUBLIC_API_KEY"}),
        ({"VAPI_CREDENTIAL": "session_token", "VAPI_ORG_ID": ""}, {"VAPI_ORG_ID"}),
        ({"VAPI_PUBLIC_API_KEY": PRIVATE_KEY}, {"VAPI_PUBLIC_API_KEY"}),
        ({"VAPI_ASSISTANT_ID": PRIVATE_KEY}, {"VAPI_ASSISTANT_ID"}),
        ({"VAPI_ORG_ID": PRIVATE_KEY}, {"VAPI_ORG_ID"}),
        ({"VAPI_TIMEOUT_SECONDS": "3"}, {"VAPI_TIMEOUT_SECONDS"}),
        ({"SESSION_BUDGET_SECONDS": "1"}, {"VAPI_TIMEOUT_SECONDS"}),
        ({"VAPI_API_KEY": f"ssh-rsa{'A' * 40}"}, {"VAPI_API_KEY"}),
        ({"VAPI_CREDENTIAL": "session_token", "VAPI_API_KEY": "x" * 31}, {"VAPI_API_KEY"}),
        ({"JWT_SECRET_PREVIOUS": "x" * 31}, {"JWT_SECRET_PREVIOUS"}),
        ({"JWT_SECRET_PREVIOUS": PEM}, {"JWT_SECRET_PREVIOUS"}),
        (
            {"JWT_SECRET": "", "JWT_PUBLIC_KEY": PEM, "JWT_SECRET_PREVIOUS": "x" * 32},
            {"JWT_SECRET_PREVIOUS"},
        ),
        (
            {**USES_JWKS, "JWT_SECRET_PREVIOUS": "x" * 32},
            {"JWT_SECRET_PREVIOUS"},
        ),
        (
            {"JWT_SECRET": "", "JWT_SECRET_PREVIOUS": "x" * 32},
            {"JWT_SECRET", "JWT_SECRET_PREVIOUS"},
        ),
        (
            {"JWT_SECRET_FILE": "/nonexistent", "JWT_SECRET": "", "JWT_SECRET_PREVIOUS": "x" * 32},
            {"JWT_SECRET_FILE"},
        ),
        ({"PROOF_KEY": pems.private(pems.P256)}, {"PROOF_ISSUER", "PROOF_AUDIENCE"}),
    ],
)
def test_invalid_combinations(variables: dict[str, str], names: set[str]) -> None:
    assert set(faults(**variables)) == names


def test_one_fault_is_reported_for_each_variable() -> None:
    reported = faults(
        JWT_SECRET="short", JWT_PUBLIC_KEY="x", JWT_ALGORITHMS="none", VAPI_API_KEY=""
    )
    assert reported["VAPI_API_KEY"] == "is required"
    assert reported["JWT_SECRET"].startswith("must be at least 32 bytes")


def test_a_faulty_key_source_counts_as_given() -> None:
    assert set(faults(JWT_SECRET="", JWT_JWKS_URL="nonsense", JWT_ISSUER="us")) == {"JWT_JWKS_URL"}


TWO = "two-purposes-of-one-value-are-one-too-many"


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("JWT_SECRET", "VAPI_API_KEY"),
        ("JWT_SECRET_PREVIOUS", "JWT_SECRET"),
        ("AUDIT_HASH_KEY", "JWT_SECRET"),
        ("AUDIT_HASH_KEY", "JWT_SECRET_PREVIOUS"),
        ("VAPI_PUBLIC_API_KEY", "JWT_SECRET"),
        ("VAPI_ORG_ID", "AUDIT_HASH_KEY"),
        ("VAPI_ASSISTANT_ID", "JWT_SECRET_PREVIOUS"),
        ("VAPI_ASSISTANT_ID", "VAPI_API_KEY"),
    ],
)
def test_secrets_differ_from_each_other_and_from_what_apps_know(name: str, other: str) -> None:
    reported = faults(**{name: TWO, other: TWO})
    assert list(reported) == [name]
    assert f"must differ from {other}" in reported[name]
    assert TWO not in reported[name]


def test_public_values_may_be_equal() -> None:
    make_settings(VAPI_ORG_ID="same", VAPI_ASSISTANT_ID="same")


@pytest.mark.parametrize("mode", ["accept", "require"])
def test_dpop_requires_the_public_address(mode: str) -> None:
    assert faults(JWT_DPOP=mode) == {"PUBLIC_URL": f"is required with JWT_DPOP={mode}"}
    assert make_settings(JWT_DPOP=mode, PUBLIC_URL="https://a.test").public_url
    assert faults(JWT_DPOP=mode, PUBLIC_URL="ftp://a.test").keys() == {"PUBLIC_URL"}
