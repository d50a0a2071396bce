"""The key provider that the settings describe."""

from logging import WARNING

import pytest
from aiohttp import ClientSession

from middlewares.errors import ApiError
from rig.issuer import Issuer, Key, key
from rig.service import make_settings
from server.auth.aiohttp_jwt_adapter import verify_token
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
    verify = await keys.find("ES256", "other")
    assert verify_token(other.token(), verify)["id"] == "pt_1"
    logged = caplog.record_tuples
    if proof:
        assert keys.key_set is not None
        assert keys.key_set.find("ES256", "proof") is None
        message = 'keys of JWT_JWKS_URL are not used: "proof" (it is a key of PROOF_KEY)'
        assert logged == [("server.auth.jwks", WARNING, message)]
    else:
        verify = await keys.find("ES256", "proof")
        assert verify_token(PROOF_KEY.token(), verify)["id"] == "pt_1"
        assert logged == []


async def test_settings_reach_the_jwks_provider(issuer: Issuer, session: ClientSession) -> None:
    keys = make_jwks_provider(make_settings(**{**issuer.variables, "JWT_ALGORITHMS": "ES256"}))
    await keys.fetch_once(session)
    with pytest.raises(ApiError, match="algorithm is not accepted"):
        await keys.find("ES384", "one")
    verify = await keys.find("ES256", "one")
    with pytest.raises(ApiError, match="issued by another issuer"):
        verify_token(issuer.keys[0].token({"iss": "them"}), verify)
