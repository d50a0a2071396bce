"""The verifiers against proofs and keys of the service itself."""

import asyncio
from time import time
from typing import Any

import pytest

from rig.service import ASSISTANT_ID, Service, claims, sign
from tests import pems
from tests.conftest import Serve
from tests.pems import OTHER_P256, PROOF
from tests.tools.drivers import Driver
from tests.tools.proofs import instant

EXPECTED = {"issuer": PROOF["PROOF_ISSUER"], "audience": PROOF["PROOF_AUDIENCE"]}


async def new_proof(service: Service, patient: str = "pt_1") -> str:
    answer = await service.start(sign(claims(id=patient)))
    return str(answer.json["data"]["patientProof"])


def call_now(**changes: Any) -> dict[str, Any]:
    """Write the call of a webhook that began now."""
    return {"id": "call-1", "assistantId": ASSISTANT_ID, "createdAt": instant(time()), **changes}


async def verify(driver: Driver, proof: str, call: dict[str, Any] | None = None) -> Any:
    """Return the patient, or the reason of the refusal."""
    options = {"times": 1, "proof": proof, "call": call or call_now(), **EXPECTED}
    found = await asyncio.to_thread(driver.run, "verify", **options)
    return found["reason"] if "reason" in found else found["value"]["sub"]


def open_keys(driver: Driver, service: Service) -> None:
    url = f"{service.url}/.well-known/jwks.json"
    driver.run("keys", url=url, max_age=300, cooldown=0, max_stale=86_400)


@pytest.mark.parametrize("credential", ["public_key", "session_token"])
async def test_an_issued_proof_names_its_patient(
    driver: Driver, serve: Serve, credential: str
) -> None:
    service = await serve(**PROOF, VAPI_CREDENTIAL=credential)
    open_keys(driver, service)
    for patient in ("pt_1", "aZ0._:@|+/=-", "x" * 128):
        assert await verify(driver, await new_proof(service, patient)) == patient


async def test_a_tool_may_be_called_late_in_a_long_call(driver: Driver, serve: Serve) -> None:
    service = await serve(**PROOF, VAPI_TOKEN_TTL_SECONDS="10")
    open_keys(driver, service)
    proof = await new_proof(service)
    for began, expected in [(time() + 35, "pt_1"), (time() + 45, "window"), (0, "window")]:
        assert await verify(driver, proof, call_now(createdAt=instant(began))) == expected


async def test_a_proof_is_for_one_assistant(driver: Driver, serve: Serve) -> None:
    service = await serve(**PROOF)
    open_keys(driver, service)
    proof = await new_proof(service)
    assert await verify(driver, proof, call_now(assistantId="another")) == "assistant"


async def test_keys_rotate_without_a_refusal(driver: Driver, serve: Serve) -> None:
    old, new = pems.private(pems.P256), pems.private(OTHER_P256)
    steps = [old, old + new, new + old, new]
    services = [await serve(**{**PROOF, "PROOF_KEY": keys}) for keys in steps]
    early = await new_proof(services[0])
    for service in services[:3]:
        open_keys(driver, service)
        assert await verify(driver, early) == "pt_1"
        assert await verify(driver, await new_proof(service)) == "pt_1"
    open_keys(driver, services[3])
    assert await verify(driver, await new_proof(services[2])) == "pt_1"
    assert await verify(driver, early) == "key"
