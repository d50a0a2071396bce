"""The rules that relate several variables, and the warnings about valid ones."""

import pytest

from rig.service import ASSISTANT_ID, NO_FILE, PRIVATE_KEY, VARIABLES, make_settings
from server.config.checks import advise
from server.config.loader import load_configuration
from tests import pems
from tests.pems import PROOF
from tests.server.config.support import faults
from tests.table import NOWHERE

Variables = dict[str, str]

PEM = pems.public(pems.RSA)
JWKS = {"JWT_JWKS_URL": f"http://{NOWHERE}/jwks", "JWT_ISSUER": "us"}
USES_JWKS = {"JWT_SECRET": "", **JWKS}
USES_PEM = {"JWT_SECRET": "", "JWT_PUBLIC_KEY": PEM}
SESSION_TOKEN = {"VAPI_CREDENTIAL": "session_token"}


@pytest.mark.parametrize(
    ("variables", "algorithms"),
    [
        ({}, ("HS256",)),
        ({"JWT_ALGORITHMS": "HS512, HS256"}, ("HS512", "HS256")),
        (USES_PEM, ("RS256", "ES256")),
        (USES_JWKS, ("RS256", "ES256")),
        ({"JWT_PUBLIC_KEY": PEM}, ("HS256", "RS256", "ES256")),
        (JWKS, ("HS256", "RS256", "ES256")),
        ({**USES_PEM, "JWT_ALGORITHMS": "PS512"}, ("PS512",)),
    ],
)
def test_default_algorithms(variables: Variables, algorithms: tuple[str, ...]) -> None:
    assert make_settings(**variables).jwt_algorithms == algorithms


@pytest.mark.parametrize(
    "variables",
    [
        {**SESSION_TOKEN, "VAPI_PUBLIC_API_KEY": "", "VAPI_API_KEY": "x" * 32},
        {"VAPI_CREDENTIAL": "public_key", "VAPI_ORG_ID": "", "VAPI_API_KEY": "x"},
        {"SESSION_BUDGET_SECONDS": "0.2", "VAPI_TIMEOUT_SECONDS": "0.1"},
        {"JWT_SECRET_PREVIOUS": "y" * 32, **JWKS},
        {"JWT_SECRET": "x" * 48, "JWT_ALGORITHMS": "HS384"},
        {"JWT_SECRET": "x" * 64, "JWT_ALGORITHMS": "HS512"},
        {**USES_PEM, "JWT_PUBLIC_KEY": pems.public(pems.ED25519), "JWT_ALGORITHMS": "Ed25519"},
        {**USES_JWKS, "JWT_JWKS_URL": f"http://{NOWHERE}/jwks?appid=1"},
        {"VAPI_ORG_ID": "same", "VAPI_ASSISTANT_ID": "same"},
        {"VAPI_ASSISTANT_ID": "", "VAPI_ASSISTANTS": "a:b", "VAPI_ASSISTANT_CLAIM": "c"},
        {"VAPI_ASSISTANTS": ",".join(f"n{number}:b" for number in range(200))},
        {"CONSENT_REQUIRED": ",".join(f"n{number}@1" for number in range(16))},
        {"CALL_MONITOR": "enforce", "CALL_LIMITS": "active:1,minutes:30/day", **PROOF},
        {"JWT_DPOP": "require", "PUBLIC_URL": "https://a.test"},
    ],
)
def test_valid_combinations(variables: Variables) -> None:
    settings = make_settings(**variables)
    for name, value in variables.items():
        loaded = getattr(settings, name.lower())
        shown = ",".join(loaded) if isinstance(loaded, tuple) else loaded
        assert (shown.decode() if isinstance(shown, bytes) else str(shown)) == value


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"JWT_SECRET": ""}, {"JWT_SECRET"}),
        ({**JWKS, "JWT_ISSUER": ""}, {"JWT_ISSUER"}),
        ({**USES_JWKS, "JWT_ISSUER": ""}, {"JWT_ISSUER"}),
        ({**JWKS, "JWT_PUBLIC_KEY": PEM}, {"JWT_JWKS_URL"}),
        ({**JWKS, **USES_PEM}, {"JWT_JWKS_URL"}),
        ({**USES_JWKS, "JWT_JWKS_URL": "nonsense"}, {"JWT_JWKS_URL"}),
        ({"JWT_SECRET": "", "JWT_JWKS_URL": "http://a.test"}, {"JWT_JWKS_URL", "JWT_ISSUER"}),
        # Algorithms and keys.
        ({"JWT_PUBLIC_KEY": PEM, "JWT_ALGORITHMS": "RS256"}, {"JWT_ALGORITHMS"}),
        ({"JWT_PUBLIC_KEY": PEM, "JWT_ALGORITHMS": "HS256"}, {"JWT_ALGORITHMS"}),
        ({**JWKS, "JWT_ALGORITHMS": "ES256"}, {"JWT_ALGORITHMS"}),
        ({"JWT_ALGORITHMS": "RS256"}, {"JWT_ALGORITHMS"}),
        ({"JWT_ALGORITHMS": "HS256,RS256"}, {"JWT_ALGORITHMS"}),
        ({"JWT_ALGORITHMS": "none"}, {"JWT_ALGORITHMS"}),
        ({"JWT_ALGORITHMS": "hs256"}, {"JWT_ALGORITHMS"}),
        ({**USES_PEM, "JWT_ALGORITHMS": "HS256"}, {"JWT_ALGORITHMS"}),
        ({**USES_PEM, "JWT_ALGORITHMS": "ES256"}, {"JWT_ALGORITHMS"}),
        ({**USES_PEM, "JWT_PUBLIC_KEY": PEM + pems.public(pems.P384)}, {"JWT_ALGORITHMS"}),
        (
            {**USES_PEM, "JWT_PUBLIC_KEY": pems.public(pems.ED448), "JWT_ALGORITHMS": "Ed25519"},
            {"JWT_ALGORITHMS"},
        ),
        ({**USES_JWKS, "JWT_ALGORITHMS": "RS256,HS256"}, {"JWT_ALGORITHMS"}),
        ({"JWT_PUBLIC_KEY": "x"}, {"JWT_PUBLIC_KEY"}),
        ({**USES_PEM, "JWT_PUBLIC_KEY": PEM + pems.private(pems.P256)}, {"JWT_PUBLIC_KEY"}),
        ({"JWT_PUBLIC_KEY_FILE": "/nonexistent"}, {"JWT_PUBLIC_KEY_FILE"}),
        # Secrets.
        ({"JWT_PUBLIC_KEY": PEM, "JWT_SECRET": "x" * 31}, {"JWT_SECRET"}),
        ({"JWT_SECRET_FILE": "/nonexistent"}, {"JWT_SECRET_FILE"}),
        ({"JWT_SECRET": "x" * 31}, {"JWT_SECRET"}),
        ({"JWT_SECRET": "x" * 47, "JWT_ALGORITHMS": "HS384"}, {"JWT_SECRET"}),
        ({"JWT_SECRET": "x" * 63, "JWT_ALGORITHMS": "HS512,HS256"}, {"JWT_SECRET"}),
        ({"JWT_SECRET": PEM}, {"JWT_SECRET"}),
        (
            {"JWT_SECRET_PREVIOUS": "x" * 63, "JWT_ALGORITHMS": "HS256,HS512"},
            {"JWT_SECRET_PREVIOUS"},
        ),
        ({"JWT_SECRET_PREVIOUS": PEM}, {"JWT_SECRET_PREVIOUS"}),
        ({**USES_PEM, "JWT_SECRET_PREVIOUS": "x" * 32}, {"JWT_SECRET_PREVIOUS"}),
        (
            {"JWT_SECRET": "", "JWT_SECRET_PREVIOUS": "x" * 32},
            {"JWT_SECRET", "JWT_SECRET_PREVIOUS"},
        ),
        (
            {"JWT_SECRET_FILE": "/nonexistent", "JWT_SECRET": "", "JWT_SECRET_PREVIOUS": "x" * 32},
            {"JWT_SECRET_FILE"},
        ),
        # Vapi.
        ({"VAPI_PUBLIC_API_KEY": ""}, {"VAPI_PUBLIC_API_KEY"}),
        ({**SESSION_TOKEN, "VAPI_ORG_ID": ""}, {"VAPI_ORG_ID"}),
        ({**SESSION_TOKEN, "VAPI_API_KEY": "x" * 31}, {"VAPI_API_KEY"}),
        ({"VAPI_API_KEY": f"ssh-rsa{'A' * 40}"}, {"VAPI_API_KEY"}),
        ({"VAPI_TIMEOUT_SECONDS": "3"}, {"VAPI_TIMEOUT_SECONDS"}),
        ({"SESSION_BUDGET_SECONDS": "1"}, {"VAPI_TIMEOUT_SECONDS"}),
        ({"VAPI_ASSISTANT_ID": ""}, {"VAPI_ASSISTANT_ID"}),
        ({"VAPI_ASSISTANT_CLAIM": "a"}, {"VAPI_ASSISTANT_CLAIM"}),
        ({"VAPI_ASSISTANTS": "x", "VAPI_ASSISTANT_CLAIM": "a"}, {"VAPI_ASSISTANTS"}),
        ({"VAPI_ASSISTANTS": f"a:{PRIVATE_KEY}"}, {"VAPI_ASSISTANTS"}),
        (
            {"VAPI_ASSISTANTS": ",".join(f"n{number}:b" for number in range(201))},
            {"VAPI_ASSISTANTS"},
        ),
        (
            {"CONSENT_REQUIRED": ",".join(f"n{number}@1" for number in range(17))},
            {"CONSENT_REQUIRED"},
        ),
        # Proofs and calls.
        ({"PROOF_KEY": PROOF["PROOF_KEY"]}, {"PROOF_ISSUER", "PROOF_AUDIENCE"}),
        ({"CALL_MONITOR": "report"}, {"CALL_MONITOR"}),
        ({"CALL_LIMITS": "active:1"}, {"CALL_LIMITS"}),
        ({"CALL_MONITOR": "on", "CALL_LIMITS": "active:1"}, {"CALL_MONITOR"}),
        ({"CALL_MONITOR": "report", "PROOF_KEY_FILE": "/nonexistent"}, {"PROOF_KEY_FILE"}),
        ({"JWT_DPOP": "accept", "PUBLIC_URL": "ftp://a.test"}, {"PUBLIC_URL"}),
    ],
)
def test_invalid_combinations(variables: Variables, names: set[str]) -> None:
    assert set(faults(**variables)) == names


def test_one_fault_is_reported_for_each_variable() -> None:
    reported = faults(
        JWT_SECRET="short", JWT_PUBLIC_KEY="x", JWT_ALGORITHMS="none", VAPI_API_KEY=""
    )
    assert reported["VAPI_API_KEY"] == "is required"
    assert reported["JWT_SECRET"].startswith("must be at least 32 bytes")


def test_messages() -> None:
    assert faults(JWT_DPOP="require") == {"PUBLIC_URL": "is required with JWT_DPOP=require"}
    assert faults(**SESSION_TOKEN, VAPI_API_KEY="x") == {
        "VAPI_API_KEY": "must have at least 32 characters with VAPI_CREDENTIAL=session_token; "
        "copy it whole from Vapi"
    }


TWO = "two-purposes-of-one-value-are-one-too-many"


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("JWT_SECRET", "VAPI_API_KEY"),
        ("JWT_SECRET_PREVIOUS", "JWT_SECRET"),
        ("AUDIT_HASH_KEY", "JWT_SECRET"),
        ("AUDIT_HASH_KEY", "JWT_SECRET_PREVIOUS"),
        ("VAPI_PUBLIC_API_KEY", "JWT_SECRET"),
        ("VAPI_PUBLIC_API_KEY", "VAPI_API_KEY"),
        ("VAPI_ORG_ID", "AUDIT_HASH_KEY"),
        ("VAPI_ASSISTANT_ID", "JWT_SECRET_PREVIOUS"),
        ("VAPI_ASSISTANT_ID", "VAPI_API_KEY"),
    ],
)
def test_secrets_differ_from_each_other_and_from_what_apps_know(name: str, other: str) -> None:
    reported = faults(**{name: TWO, other: TWO})
    assert list(reported) == [name]
    assert f"must differ from {other}" in reported[name]


# --- warnings --------------------------------------------------------------------------------

PROVIDER = {**USES_JWKS, "JWT_JWKS_URL": "https://id.test/jwks"}
AUDIENCE = {**PROVIDER, "JWT_AUDIENCE": "voice"}
UUID = ASSISTANT_ID


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({}, []),
        (PROVIDER, ["JWT_AUDIENCE"]),
        ({**PROVIDER, "JWT_REQUIRED_CLAIMS": "client_id=app"}, []),
        (AUDIENCE, []),
        ({"VAPI_ASSISTANT_ID": "33333333-3333-4333-8333-AAAAAAAAAAAA"}, []),
        ({"VAPI_ASSISTANT_ID": "assistant"}, ["VAPI_ASSISTANT_ID"]),
        ({"VAPI_ASSISTANT_ID": UUID.replace("-", "")}, ["VAPI_ASSISTANT_ID"]),
        ({"VAPI_ASSISTANT_ID": f"{{{UUID}}}"}, ["VAPI_ASSISTANT_ID"]),
        ({"VAPI_ASSISTANT_ID": "", "VAPI_ASSISTANTS": f"a:{UUID}"}, []),
        ({"VAPI_ASSISTANTS": f"a:{UUID},b:x"}, ["VAPI_ASSISTANTS"]),
        ({"JWT_PATIENT_ROLE": "patient "}, ["JWT_PATIENT_ROLE"]),
        ({"JWT_ROLE_CLAIM": "off"}, ["JWT_ROLE_CLAIM"]),
        ({"JWT_ISSUER": "'https://id.test/'", "JWT_ROLE_CLAIM": "'a"}, ["JWT_ISSUER"]),
        ({"JWT_SECRET": f'"{"x" * 32}"', "VAPI_API_KEY": '"x"'}, ["VAPI_API_KEY", "JWT_SECRET"]),
        ({**USES_PEM, "JWT_PUBLIC_KEY": f"\n{pems.public(pems.P256)}"}, []),
        (
            {**AUDIENCE, "JWT_JWKS_URL": "https://id.test/.well-known/openid-configuration"},
            ["JWT_JWKS_URL"],
        ),
        ({**PROVIDER, "VAPI_ASSISTANT_ID": "x"}, ["JWT_AUDIENCE", "VAPI_ASSISTANT_ID"]),
    ],
)
def test_questionable_settings(variables: Variables, names: list[str]) -> None:
    warnings = list(advise(make_settings(**variables)))
    assert [warning.split(":")[0] for warning in warnings] == names
    assert all("\n" not in warning for warning in warnings)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("redis://redis.test", True),
        ("redis://127.0.0.1", False),
        ("rediss://redis.test", False),
        ("unix:///run/redis", False),
    ],
)
def test_redis_without_encryption_is_a_warning_at_start(url: str, *, warned: bool) -> None:
    warnings = load_configuration({**VARIABLES, "REDIS_URL": url}, NO_FILE).warnings
    assert [warning.partition(":")[0] for warning in warnings] == ["REDIS_URL"] * warned
