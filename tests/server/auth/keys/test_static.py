"""Keys of the configuration: which tokens each of them verifies."""

from typing import Any

import joserfc.jwk
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from middlewares.errors import ApiError
from rig.issuer import Key, make_key
from rig.rsa_keys import rsa_key
from rig.service import SECRET, claims, make_settings, sign
from server.auth.aiohttp_jwt_adapter import verify_token
from server.auth.keys import make_static_provider
from server.auth.tokens import VerificationKey
from server.config import Settings
from tests import pems
from tests.conftest import Serve

PREVIOUS = "the-previous-secret-that-is-64-bytes-long-or-more-for-HS512-as-well"
OTHER = "another-secret-that-is-64-bytes-long-or-more-for-HS512-as-well-....."
ES256_KEYS = [make_key("ES256") for _ in range(4)]
EIGHT_KEYS: list[tuple[str, Any]] = [
    *(("ES256", key) for key in ES256_KEYS),
    ("RS256", pems.RSA),
    ("PS256", rsa_key(1)),
    ("ES384", pems.P384),
    ("EdDSA", pems.ED25519),
]
SIGNERS: list[tuple[str, Any]] = [
    *((f"{kind}{bits}", pems.RSA) for kind in ("RS", "PS") for bits in (256, 384, 512)),
    ("ES256", pems.P256),
    ("ES384", pems.P384),
    ("ES512", pems.P521),
    ("EdDSA", pems.ED25519),
    ("EdDSA", pems.ED448),
]


def eight_public_keys() -> Settings:
    blocks = "".join(pems.public(key) for _, key in EIGHT_KEYS)
    algorithms = "RS256,PS256,ES256,ES384,EdDSA"
    return make_settings(JWT_SECRET="", JWT_PUBLIC_KEY=blocks, JWT_ALGORITHMS=algorithms)


async def verifies(settings: Settings, token: str, algorithm: str) -> bool:
    """Return whether a key of the settings verifies a token, whatever its `kid`."""
    keys = make_static_provider(settings)
    results = set()
    for key_id in (None, "any key id"):
        try:
            verify = await keys.find(algorithm, key_id)
            results.add(verify_token(token, verify)["id"] == "pt_1")
        except ApiError:
            results.add(False)
    (result,) = results
    return result


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_secret_verifies_its_algorithms_only(algorithm: str) -> None:
    settings = make_settings(JWT_ALGORITHMS=algorithm)
    for other in ("HS256", "HS384", "HS512"):
        assert await verifies(settings, sign(algorithm=other), other) is (other == algorithm)
    for other in ("RS256", "none", ""):
        assert not await verifies(settings, sign(algorithm=algorithm), other)


def test_configured_keys_are_always_ready() -> None:
    keys = make_static_provider(make_settings())
    assert keys.state == "ready"
    assert keys.key_set is keys.key_set is not None


@pytest.mark.parametrize("algorithm", ["HS256", "HS512"])
@pytest.mark.parametrize(
    ("previous", "secret", "expected"),
    [
        (PREVIOUS, SECRET, True),
        (PREVIOUS, PREVIOUS, True),
        (PREVIOUS, OTHER, False),
        ("", PREVIOUS, False),
    ],
)
async def test_previous_secret_verifies_beside_the_secret(
    algorithm: str, previous: str, secret: str, *, expected: bool
) -> None:
    settings = make_settings(JWT_SECRET_PREVIOUS=previous, JWT_ALGORITHMS="HS256,HS512")
    token = sign(key=secret, algorithm=algorithm)
    assert await verifies(settings, token, algorithm) is expected


@pytest.mark.parametrize(("algorithm", "key"), SIGNERS)
async def test_public_key_verifies_each_algorithm_of_its_type(
    serve: Serve, algorithm: str, key: Any
) -> None:
    service = await serve(JWT_SECRET="", JWT_PUBLIC_KEY=pems.public(key), JWT_ALGORITHMS=algorithm)
    assert (await service.start(sign(key=key, algorithm=algorithm))).status == 200
    confused = await service.start(sign(key=SECRET))
    assert (confused.status, confused.code) == (401, "AUTH_TOKEN_INVALID")


@pytest.mark.parametrize("named", ["EdDSA", "Ed25519"])
async def test_either_name_of_ed25519_accepts_both(serve: Serve, named: str) -> None:
    pem = pems.public(pems.ED25519)
    service = await serve(JWT_SECRET="", JWT_PUBLIC_KEY=pem, JWT_ALGORITHMS=named)
    for algorithm in ("EdDSA", "Ed25519"):
        assert (await service.start(sign(key=pems.ED25519, algorithm=algorithm))).status == 200
    forged = sign(key=make_key("Ed25519"), algorithm="Ed25519")
    assert (await service.start(forged)).code == "AUTH_TOKEN_INVALID"


async def test_ed448_has_the_name_eddsa_only(serve: Serve) -> None:
    pem = pems.public(pems.ED448)
    service = await serve(JWT_SECRET="", JWT_PUBLIC_KEY=pem, JWT_ALGORITHMS="EdDSA")
    assert (await service.start(sign(key=pems.ED448, algorithm="EdDSA"))).status == 200
    assert (await service.start(sign(key=pems.ED448, algorithm="Ed25519"))).status == 401


@pytest.mark.parametrize(("algorithm", "key"), EIGHT_KEYS)
async def test_each_of_eight_public_keys_verifies(algorithm: str, key: Any) -> None:
    assert await verifies(eight_public_keys(), sign(key=key, algorithm=algorithm), algorithm)


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        pytest.param("ES256", make_key("ES256"), id="not configured"),
        pytest.param("ES512", pems.P521, id="algorithm not allowed"),
        pytest.param("PS512", pems.RSA, id="algorithm of a configured key, not allowed"),
        pytest.param("HS256", SECRET, id="symmetric"),
    ],
)
async def test_token_of_none_of_eight_public_keys_is_rejected(algorithm: str, key: Any) -> None:
    assert not await verifies(eight_public_keys(), sign(key=key, algorithm=algorithm), algorithm)


def tried_keys(monkeypatch: pytest.MonkeyPatch) -> list[VerificationKey]:
    """Return a list of the keys that are tried from now on."""
    tried: list[VerificationKey] = []
    really = VerificationKey.verify

    def record(key: VerificationKey, *parts: bytes) -> bool:
        tried.append(key)
        return really(key, *parts)

    monkeypatch.setattr(VerificationKey, "verify", record)
    return tried


@pytest.mark.parametrize("signer", [*ES256_KEYS, pems.RSA, rsa_key(1), pems.ED25519])
async def test_key_is_tried_first_by_its_thumbprint(
    monkeypatch: pytest.MonkeyPatch, signer: Any
) -> None:
    algorithm = "RS256" if isinstance(signer, RSAPrivateKey) else "ES256"
    algorithm = "EdDSA" if signer is pems.ED25519 else algorithm
    thumbprint = joserfc.jwk.import_key(Key(algorithm, signer, None).jwk()).thumbprint()
    tried = tried_keys(monkeypatch)
    verify = await make_static_provider(eight_public_keys()).find(algorithm, thumbprint)
    assert verify_token(sign(key=signer, algorithm=algorithm), verify)["id"] == "pt_1"
    assert len(tried) == 1
    other = next(key for name, key in EIGHT_KEYS if name == algorithm)
    assert verify_token(sign(key=other, algorithm=algorithm), verify)["id"] == "pt_1"


@pytest.mark.parametrize(("algorithm", "attempts"), [("ES256", 4), ("RS256", 2), ("EdDSA", 1)])
async def test_forged_token_costs_one_verification_for_each_fitting_key(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, attempts: int
) -> None:
    tried = tried_keys(monkeypatch)
    verify = await make_static_provider(eight_public_keys()).find(algorithm, None)
    forged = sign(key=make_key(algorithm), algorithm=algorithm)
    with pytest.raises(ApiError, match="signature does not verify"):
        verify_token(forged, verify)
    assert len(tried) == len(set(tried)) == attempts


async def test_algorithm_without_a_fitting_key_is_rejected() -> None:
    settings = make_settings(JWT_SECRET="", JWT_PUBLIC_KEY=pems.public(pems.P256))
    assert settings.jwt_algorithms == ("RS256", "ES256")
    keys = make_static_provider(settings)
    with pytest.raises(ApiError) as caught:
        await keys.find("RS256", None)
    assert caught.value.details == "The token's algorithm is not accepted here"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"iss": "us", "aud": "voice"}, True),
        ({"iss": "us", "aud": ["other", "calls"]}, True),
        ({"iss": "us", "aud": "voice,calls"}, False),
        ({"iss": "us"}, False),
        ({"aud": "voice"}, False),
        ({"iss": "them", "aud": "voice"}, False),
    ],
)
async def test_issuer_and_audiences_are_checked(changes: dict[str, Any], *, expected: bool) -> None:
    settings = make_settings(JWT_ISSUER="us", JWT_AUDIENCE="voice, calls")
    assert await verifies(settings, sign(claims(**changes)), "HS256") is expected
