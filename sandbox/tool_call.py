"""`python -m sandbox.tool_call URL`: calls a tool server as Vapi does.

Development mode (`make run`) must be running: a session is started there for a patient, a call with
its proof at the stand-in for Vapi, and the stand-in sends the signed webhook to the address.
"""

import argparse
import asyncio
from typing import Any

from aiohttp import ClientError, ClientSession

from sandbox.patients import PATIENTS
from sandbox.playground import PATH
from sandbox.tools.proofs import BadProof

NO_PROOF, REPLAYED = "none", "replayed"


class DevelopmentMode:
    """The addresses of development mode, and a client for them."""

    def __init__(self, client: ClientSession, config: dict[str, Any]) -> None:
        self._client = client
        self._config = config

    async def _post(self, url: str, body: object, bearer: str = "") -> Any:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        async with self._client.post(url, json=body, headers=headers) as response:
            if not response.ok:
                raise SystemExit(f"{url}: {response.status} {await response.text()}")
            return await response.json()

    async def session(self, patient: str) -> dict[str, Any]:
        """Start a session for a patient, as an app does."""
        token = await self._lab("tokens", {"kind": "valid", "patient": patient})
        endpoint = self._config["endpoints"]["public_key"]
        session: dict[str, Any] = (await self._post(endpoint, {}, token["token"]))["data"]
        return session

    async def bad_proof(self, kind: str, proof: str, patient: str) -> str:
        """Return a bad proof of this kind."""
        body = {"kind": kind, "patient": patient, "proof": proof}
        return str((await self._lab("proofs", body))["proof"])

    async def call_tool(self, session: dict[str, Any], variables: object, url: str) -> str:
        """Start a call and have it call the tool; return the response of the tool server."""
        overrides = {"variableValues": variables}
        body = {"assistantId": session["assistantId"], "assistantOverrides": overrides}
        call = await self._post(f"{self._config['vapiUrl']}/call/web", body, session["apiKey"])
        result = await self._lab("tool-calls", {"callId": call["id"], "url": url})
        return f"{result['status']} {result['text']}"

    async def _lab(self, path: str, body: object) -> Any:
        return await self._post(f"{self._config['lab']}/{path}", body)


async def run(arguments: argparse.Namespace) -> str:
    """Call the tool; return the last response of the tool server."""
    patient, other = arguments.patient, PATIENTS[1].id
    async with ClientSession() as client:
        async with client.get(f"{arguments.service}{PATH}/config.json") as response:
            mode = DevelopmentMode(client, await response.json())
        session = await mode.session(patient)
        proof = session["patientProof"]
        if arguments.proof in {*BadProof}:
            named = other if arguments.proof == BadProof.OTHER_PATIENT else patient
            proof = await mode.bad_proof(arguments.proof, proof, named)
        variables = {} if arguments.proof == NO_PROOF else {"patientProof": proof}
        if arguments.proof == REPLAYED:
            await mode.call_tool(session, variables, arguments.url)
        return await mode.call_tool(session, variables, arguments.url)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.tool_call")
    parser.add_argument("url", help="the address of the tool server, on this machine")
    parser.add_argument("--patient", default=PATIENTS[0].id)
    kinds = ["valid", NO_PROOF, REPLAYED, *BadProof]
    parser.add_argument("--proof", default="valid", choices=kinds)
    parser.add_argument("--service", default="http://127.0.0.1:8080", help="of `make run`")
    try:
        print(asyncio.run(run(parser.parse_args(arguments))))
    except ClientError as error:
        raise SystemExit(f"Development mode cannot be reached: {error}") from None
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
