"""Keys that stand in the configuration: which algorithm finds a decoder, and what it decodes."""

from typing import Any

import pytest

from middlewares.api_errors import ApiError
from server.auth.keys.factory import make_decoders, make_static_provider
from tests import pems
from tests.conftest import Serve
from tests.support import SECRET, claims, make_settings, sign

SIGNERS: list[tuple[str, Any]] = [
    *((f"{kind}{bits}", pems.RSA) for kind in ("RS", "PS") for bits in (256, 384, 512)),
    ("ES256", pems.P256),
    ("ES384", pems.P384),
    ("ES512", pems.P521),
    ("EdDSA", pems.ED25519),
    ("EdDSA", pems.ED448),
]


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_secret_checks_the_algorithms_it_is_to_be_used_with(algorithm: str) -> None:
    keys = make_static_provider(make_settings(JWT_ALGORITHMS=algorithm))
    decode = await keys.decoder(algorithm, "any key id")
    assert (await decode(sign(algorithm=algorithm)))["id"] == "pt_1"
    for other in {"HS256", "HS384", "HS512", "RS256", "none", ""} - {algorithm}:
        with pytest.raises(ApiError) as caught:
            await keys.decoder(other, None)
        assert caught.value.code == "AUTH_TOKEN_INVALID"
    assert keys.state == "ready"


@pytest.mark.parametrize(("algorithm", "key"), SIGNERS)
async def test_every_public_algorithm_works_from_end_to_end(
    serve: Serve, algorithm: str, key: Any
) -> None:
    service = await serve(JWT_SECRET="", JWT_PUBLIC_KEY=pems.public(key), JWT_ALGORITHMS=algorithm)
    assert (await service.start(sign(key=key, algorithm=algorithm))).status == 200
    confused = await service.start(sign(key=SECRET))
    assert (confused.status, confused.code) == (401, "AUTH_TOKEN_INVALID")


async def test_an_algorithm_that_the_key_does_not_fit_finds_no_decoder() -> None:
    pem = pems.public(pems.P256)
    keys = make_static_provider(make_settings(JWT_SECRET="", JWT_PUBLIC_KEY=pem))
    await keys.decoder("ES256", None)
    with pytest.raises(ApiError):
        await keys.decoder("RS256", None)


async def test_issuer_and_audience_reach_the_decoder() -> None:
    settings = make_settings(JWT_ISSUER="us", JWT_AUDIENCE="voice")
    decode = make_decoders(settings.jwt_secret, ["HS256"], settings)["HS256"]
    assert await decode(sign(claims(iss="us", aud="voice")))
    for wrong in ({"iss": "us"}, {"aud": "voice"}, {"iss": "them", "aud": "voice"}):
        with pytest.raises(ApiError):
            await decode(sign(claims(**wrong)))
