"""What the service accepts as a proof of its own."""

from typing import Any

import pytest

from rig.service import ASSISTANT_ID, make_settings
from server.proof import ProofClaims, make_proof_issuer, make_proof_verifier, public_jwk
from tests import pems
from tests.server.config.test_proof_key import OTHER, PROOF
from tests.tools import proofs

NOW = 1_800_000_000
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
    issue = make_proof_issuer(make_settings(**PROOF), lambda: NOW)
    assert issue is not None
    proof = issue("pt_1", ASSISTANT_ID, consent)
    claims = verify(proof.token, PROOF_KEY=pems.private(OTHER) + pems.private(pems.P256))
    assert claims is not None
    assert (claims.sub, claims.jti, claims.consent) == ("pt_1", proof.id, consent)
    assert [claims.covers(ASSISTANT_ID, at) for at in (NOW - 30, NOW + 150)] == [True, True]
    assert [claims.covers(ASSISTANT_ID, at) for at in (NOW - 31, NOW + 151)] == [False, False]
    assert not claims.covers(None, NOW)


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
