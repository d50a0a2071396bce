"""The clinic's tool server: it reads lab results of the patient in the proof, and of no other."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from sandbox.serving import answer
from sandbox.tools.verifier import (
    ProofError,
    ProofKeys,
    UsedProofs,
    authenticate_hmac,
    is_too_large,
    is_tool_calls,
    read_tool_calls,
    refuse_replay,
)

PATH: Final = "/webhook"

_RESULTS: Final = {
    "pt_1001": "Cholesterol 182 mg/dL",
    "pt_1002": "Cholesterin 241 mg/dL",
    "pt_1003": "Cholesterol 167 mg/dL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolServer:
    """What the server expects: webhooks signed with `secret`, proofs of `issuer`."""

    jwks_url: str
    issuer: str
    audience: str
    secret: str


def create_tool_server(expected: ToolServer) -> web.Application:
    """Return the server; its responses have the format of Vapi's documentation."""
    keys, used = ProofKeys(expected.jwks_url), UsedProofs()

    def read_lab_results(call: Any, proof: Any) -> str:
        claims = keys.verify(proof, call, issuer=expected.issuer, audience=expected.audience)
        refuse_replay(claims, call, used)
        patient = claims["sub"]
        results = _RESULTS.get(patient, "no results")
        return msgspec.json.encode({"patient": patient, "results": results}).decode()

    async def result(call: Any, tool_call_id: str, name: str, arguments: Any) -> dict[str, str]:
        answered = {"toolCallId": tool_call_id, "name": name}
        if arguments is None:
            return {**answered, "error": "The arguments are not a JSON object."}
        try:
            text = await asyncio.to_thread(read_lab_results, call, arguments.get("patientProof"))
        except ProofError as error:
            return {**answered, "error": f"{error.reason}: {error}"}
        return {**answered, "result": text}

    async def webhook(request: web.Request) -> web.Response:
        if is_too_large(request.headers.get(hdrs.CONTENT_LENGTH)):
            return answer({"error": "too large"}, 413)
        body = await request.read()
        signature, timestamp = map(request.headers.get, ("x-signature", "x-timestamp"))
        try:
            authenticate_hmac(body, signature, timestamp, secret=expected.secret)
        except ProofError as error:
            return answer({"error": f"{error.reason}: {error}"}, 401)
        message = msgspec.json.decode(body)["message"]
        if not is_tool_calls(message):
            return answer({})
        calls = read_tool_calls(message)
        return answer({"results": [await result(message["call"], *each) for each in calls]})

    app = web.Application()
    app.router.add_post(PATH, webhook)
    return app
