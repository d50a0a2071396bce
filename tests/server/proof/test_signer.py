"""The proof of one request."""

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.jwk import ECKey

from rig.service import ASSISTANT_ID, make_settings
from server.config import Settings
from server.proof import PatientProof, make_proof_issuer, public_jwk
from tests import pems
from tests.server.config.test_proof_key import PROOF

NOW = 1_800_000_000.9
OLD = ec.generate_private_key(ec.SECP256R1())


def issue(patient_id: str = "pt_1", **variables: str) -> PatientProof:
    make = make_proof_issuer(make_settings(**{**PROOF, **variables}), lambda: NOW)
    assert make is not None
    return make(patient_id, ASSISTANT_ID, None)


def test_header_and_claims() -> None:
    proof = issue()
    assert jwt.get_unverified_header(proof.token) == {
        "alg": "ES256",
        "typ": "patient-proof+jwt",
        "kid": public_jwk(pems.P256)["kid"],
    }
    claims = jwt.decode(proof.token, options={"verify_signature": False})
    assert claims == {
        "iss": "https://sessions.example",
        "aud": "https://tools.example",
        "sub": "pt_1",
        "jti": proof.id,
        "assistantId": ASSISTANT_ID,
        "iat": 1_800_000_000,
        "exp": 1_800_000_120,
    }


@pytest.mark.parametrize("credential", ["public_key", "session_token"])
def test_lifetime_is_that_of_session_tokens(credential: str) -> None:
    proof = issue(VAPI_TOKEN_TTL_SECONDS="600", VAPI_CREDENTIAL=credential)
    claims = jwt.decode(proof.token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 600


def test_signature_verifies_with_another_library() -> None:
    proof = issue()
    key = ECKey.import_key(pems.public(pems.P256))
    payload = jws.deserialize_compact(proof.token, key, algorithms=["ES256"]).payload
    assert json.loads(payload)["jti"] == proof.id


def test_first_key_signs() -> None:
    proof = issue(PROOF_KEY=pems.private(pems.P256) + pems.private(OLD))
    key = ECKey.import_key(pems.public(pems.P256))
    signed = jws.deserialize_compact(proof.token, key, algorithms=["ES256"])
    assert signed.headers()["kid"] == key.thumbprint()


def test_size() -> None:
    issuer = "https://sessions.clinic-with-a-long-name.example/"
    audience = "https://tools.clinic-with-a-long-name.example/voice"
    assert len(issuer + audience) == 100
    settings: Settings = make_settings(
        **{**PROOF, "PROOF_ISSUER": issuer, "PROOF_AUDIENCE": audience},
        VAPI_ASSISTANT_ID="5b5f1e8e-3a86-4d0e-9f0b-2f1c8d7a6b5c",
    )
    make = make_proof_issuer(settings, lambda: NOW)
    assert make is not None
    assert (
        len(make("0f8fad5b-d9cb-469f-a165-70867728950e", settings.vapi_assistant_id, None).token)
        <= 600
    )
