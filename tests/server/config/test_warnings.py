"""Warnings about valid settings."""

import pytest

from rig.service import ASSISTANT_ID, make_settings
from server.config.checks import advise
from tests import pems

JWKS = {"JWT_SECRET": "", "JWT_JWKS_URL": "https://id.test/jwks", "JWT_ISSUER": "https://id.test/"}


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({}, []),
        (JWKS, ["JWT_AUDIENCE"]),
        ({**JWKS, "JWT_AUDIENCE": "voice"}, []),
        ({"VAPI_ASSISTANT_ID": "33333333-3333-4333-8333-AAAAAAAAAAAA"}, []),
        ({"VAPI_ASSISTANT_ID": "assistant"}, ["VAPI_ASSISTANT_ID"]),
        ({"VAPI_ASSISTANT_ID": "33333333333343338333333333333333"}, ["VAPI_ASSISTANT_ID"]),
        ({"VAPI_ASSISTANT_ID": "{33333333-3333-4333-8333-333333333333}"}, ["VAPI_ASSISTANT_ID"]),
        ({"VAPI_ASSISTANT_ID": "", "VAPI_ASSISTANTS": f"a:{ASSISTANT_ID}"}, []),
        ({"VAPI_ASSISTANTS": f"a:{ASSISTANT_ID},b:x"}, ["VAPI_ASSISTANTS"]),
        ({"JWT_PATIENT_ROLE": "patient "}, ["JWT_PATIENT_ROLE"]),
        ({"JWT_ROLE_CLAIM": "off"}, ["JWT_ROLE_CLAIM"]),
        ({"JWT_ISSUER": "'https://id.test/'", "JWT_ROLE_CLAIM": "'a"}, ["JWT_ISSUER"]),
        ({"JWT_SECRET": f'"{"x" * 32}"', "VAPI_API_KEY": '"x"'}, ["VAPI_API_KEY", "JWT_SECRET"]),
        ({"JWT_SECRET": "", "JWT_PUBLIC_KEY": f"\n{pems.public(pems.P256)}"}, []),
        (
            {
                **JWKS,
                "JWT_AUDIENCE": "voice",
                "JWT_JWKS_URL": "https://id.test/.well-known/openid-configuration",
            },
            ["JWT_JWKS_URL"],
        ),
        ({**JWKS, "VAPI_ASSISTANT_ID": "x"}, ["JWT_AUDIENCE", "VAPI_ASSISTANT_ID"]),
    ],
)
def test_questionable_settings(variables: dict[str, str], names: list[str]) -> None:
    warnings = list(advise(make_settings(**variables)))
    assert [warning.split(":")[0] for warning in warnings] == names
    assert all("\n" not in warning for warning in warnings)
