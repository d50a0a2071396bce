"""Patient proofs: signing, verifying, and the key set as tool servers read it."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey

from rig.service import ASSISTANT_ID, make_settings
from server.proof import (
    PatientProof,
    ProofClaims,
    make_proof_issuer,
    make_proof_verifier,
    public_jwk,
    thumbprint,
)
from tests import pems
from tests.pems import OTHER_P256, PROOF
from tests.tools import proofs

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_thumbprint_is_that_of_the_example() -> None:
    # The key of RFC 7517 appendix A.1; openssl dgst computed its thumbprint.
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        "use": "enc",
        "kid": "1",
    }
    assert thumbprint(jwk) == "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"


@settings(max_examples=50)
@given(st.integers(min_value=1, max_value=ORDER - 1))
def test_each_key_is_read_as_joserfc_reads_it(number: int) -> None:
    key = ec.derive_private_key(number, ec.SECP256R1())
    other = ECKey.import_key(pems.public(key))
    expected = {**other.as_dict(private=False), "kid": other.thumbprint()}
    assert public_jwk(key) == {**expected, "use": "sig", "alg": "ES256"}


NOW = 1_800_000_000.9


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


def test_first_key_signs() -> None:
    proof = issue(PROOF_KEY=pems.private(pems.P256) + pems.private(OTHER_P256))
    key = ECKey.import_key(pems.public(pems.P256))
    signed = jws.deserialize_compact(proof.token, key, algorithms=["ES256"])
    assert signed.headers()["kid"] == key.thumbprint()
    assert json.loads(signed.payload)["jti"] == proof.id


def test_size() -> None:
    issuer = "https://sessions.clinic-with-a-long-name.example/"
    audience = "https://tools.clinic-with-a-long-name.example/voice"
    assert len(issuer + audience) == 100
    proof = issue(
        "0f8fad5b-d9cb-469f-a165-70867728950e", PROOF_ISSUER=issuer, PROOF_AUDIENCE=audience
    )
    assert len(proof.token) <= 600


IAT = 1_800_000_000
EXPECTED = {"PROOF_ISSUER": proofs.ISSUER, "PROOF_AUDIENCE": proofs.AUDIENCE}
KID = public_jwk(pems.P256)["kid"]


def verify(proof: object, **variables: str) -> ProofClaims | None:
    verifier = make_proof_verifier(make_settings(**{**PROOF, **variables}))
    assert verifier is not None
    return verifier(proof)


def signed(head: dict[str, Any] | None = None, **claims: Any) -> str:
    """Sign a good proof, changed, with the key of the settings."""
    header = proofs.header(**{"kid": KID, **(head or {})})
    return proofs.proof(header, proofs.claims(**claims), key=pems.P256)


def test_without_key_there_is_no_verifier() -> None:
    assert make_proof_verifier(make_settings()) is None


@pytest.mark.parametrize("consent", [None, {"voice": "2"}])
def test_issued_proof_is_accepted_during_rotation(consent: dict[str, str] | None) -> None:
    issue = make_proof_issuer(make_settings(**PROOF), lambda: IAT)
    assert issue is not None
    proof = issue("pt_1", ASSISTANT_ID, consent)
    claims = verify(proof.token, PROOF_KEY=pems.private(OTHER_P256) + pems.private(pems.P256))
    assert claims is not None
    assert (claims.sub, claims.jti, claims.consent) == ("pt_1", proof.id, consent)
    assert [claims.covers(ASSISTANT_ID, at) for at in (IAT - 30, IAT + 150)] == [True, True]
    assert [claims.covers(ASSISTANT_ID, at) for at in (IAT - 31, IAT + 151)] == [False, False]
    assert not claims.covers(None, IAT)


def test_good_proof_is_accepted() -> None:
    assert verify(signed(), **EXPECTED) is not None


@pytest.mark.parametrize(
    "proof",
    [
        None,
        1,
        "",
        "a.b",
        "{{patientProof}}",
        signed() + "A" * 4096,
        signed()[:-1] + proofs.after(signed()[-1]),
        f"{proofs.segment('x')}.{proofs.segment('{}')}.{proofs.segment('x')}",
        proofs.proof(proofs.header(kid=KID)),
        signed({"kid": ...}),
        signed({"kid": 1}),
        signed({"kid": "other"}),
        signed({"typ": "JWT"}),
        signed({"alg": "HS256"}),
        signed({"crit": []}),
        signed({"b64": True}),
        signed(iss="x"),
        signed(aud=["x"]),
        signed(aud="x"),
        signed(sub=""),
        signed(jti=""),
        signed(exp=...),
    ],
)
def test_any_other_is_refused(proof: object) -> None:
    assert verify(proof, **EXPECTED) is None
