"""`make bench-tokens`: the cost of verifying one token, layer by layer, in microseconds."""

import asyncio
from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter, time

import jwt
from jwt.utils import base64url_decode

from benchmarks.keys import MATERIALS, Material, make_token
from benchmarks.servers import SERVICE
from server.auth.aiohttp_jwt_adapter import verify_token
from server.auth.authenticator import make_authenticator
from server.auth.claims import ClaimRules
from server.auth.keys import make_static_provider
from server.auth.tokens import VerificationKey, make_verify
from server.config import load_settings

TOKENS = 2000
ROUNDS = 7
KNOWN = "the service, known token"

Verify = Callable[[str], Awaitable[object]]


def layers(material: Material) -> dict[str, Verify]:
    """Return the layers of verification by name, innermost first."""
    settings = load_settings({**SERVICE, **material.variables})
    keys = make_static_provider(settings)
    key = material.prepared
    verify = make_verify(VerificationKey(material.algorithm, key))
    algorithm = jwt.get_algorithm_by_name(material.algorithm)
    rules = ClaimRules(settings.jwt_patient_id_claim, settings.jwt_role_claim)
    whole = make_authenticator(keys, rules, time)

    async def signature(token: str) -> object:
        content, _, signed = token.rpartition(".")
        return algorithm.verify(content.encode(), key, base64url_decode(signed))

    async def pyjwt(token: str) -> object:
        return jwt.decode(token, key, algorithms=[material.algorithm])

    async def service_verify(token: str) -> object:
        return verify(token.encode())

    async def aiohttp_jwt(token: str) -> object:
        return verify_token(token, await keys.find(material.algorithm, None))

    return {
        "signature alone": signature,
        "PyJWT": pyjwt,
        "the service's verify": service_verify,
        "with aiohttp-jwt": aiohttp_jwt,
        "the service, new token": whole,
        KNOWN: whole,
    }


async def microseconds(verify: Verify, tokens: list[str]) -> float:
    """Verify all tokens. Return the microseconds for each."""
    began = perf_counter()
    for token in tokens:
        await verify(token)
    return (perf_counter() - began) / len(tokens) * 1e6


async def main() -> None:
    """Print a table with a row for each layer and a column for each algorithm."""
    costs: dict[str, list[float]] = {}
    for make in MATERIALS.values():
        material = make()
        for name in layers(material):
            rounds = []
            for number in range(ROUNDS):
                tokens = [make_token(material, number * TOKENS + n) for n in range(TOKENS)]
                verify = layers(material)[name]
                if name == KNOWN:
                    await microseconds(verify, tokens)
                rounds.append(await microseconds(verify, tokens))
            costs.setdefault(name, []).append(median(rounds))
    print(f"| one token | {' | '.join(MATERIALS)} |\n| --- |{' ---: |' * len(MATERIALS)}")
    for name, row in costs.items():
        print(f"| {name} | {' | '.join(f'{cost:.0f} µs' for cost in row)} |")


if __name__ == "__main__":
    asyncio.run(main())
