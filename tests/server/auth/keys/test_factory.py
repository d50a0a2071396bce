"""The key provider that the settings describe."""

from logging import WARNING

import pytest
from aiohttp import ClientSession

from middlewares.errors import ApiError
from rig.issuer import Issuer, Key, key
from rig.service import make_settings
from server.auth.keys import make_jwks_provider
from tests import pems

PROOF_KEY = Key("ES256", pems.P256, "proof")
PROOF = {
    "PROOF_KEY": pems.private(pems.P256),
    "PROOF_ISSUER": "https://voice.clinic.example",
    "PROOF_AUDIENCE": "tools",
}


@pytest.mark.parametrize("proof", [PROOF, {}])
async def test_proof_key_in_the_jwks_is_ignored(
    issuer: Issuer,
    session: ClientSession,
    caplog: pytest.LogCaptureFixture,
    proof: dict[str, str],
) -> None:
    other = key("other")
    issuer.keys = [PROOF_KEY, other]
    keys = make_jwks_provider(make_settings(**issuer.variables, **proof))
    for _ in range(2):
        await keys.fetch_once(session)
    decode = await keys.decoder("ES256", "other")
    assert (await decode(other.token()))["id"] == "pt_1"
    logged = caplog.record_tuples
    if proof:
        assert keys.generation is not None
        assert keys.generation.find("ES256", "proof") is None
        message = "JWT_JWKS_URL has a key of PROOF_KEY: the key is ignored"
        assert logged == [("server.auth.keys", WARNING, message)]
    else:
        decode = await keys.decoder("ES256", "proof")
        assert (await decode(PROOF_KEY.token()))["id"] == "pt_1"
        assert logged == []


async def test_settings_reach_the_jwks_provider(issuer: Issuer, session: ClientSession) -> None:
    keys = make_jwks_provider(make_settings(**{**issuer.variables, "JWT_ALGORITHMS": "ES256"}))
    await keys.fetch_once(session)
    with pytest.raises(ApiError, match="algorithm is not accepted"):
        await keys.decoder("ES384", "one")
    decode = await keys.decoder("ES256", "one")
    with pytest.raises(ApiError, match="issued by another issuer"):
        await decode(issuer.keys[0].token({"iss": "them"}))
