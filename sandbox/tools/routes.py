"""The helpers of the playground for tool calls: bad proofs, and webhooks as Vapi sends them."""

from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import ClientError, ClientSession, web

from sandbox.serving import HOST, answer, read_json
from sandbox.tools.proofs import BadProof, bad_proof
from sandbox.tools.webhook import Webhook, make_webhook
from sandbox.vapi.calls import CallStore
from server.config import Settings

_LOOPBACK = frozenset({HOST, "localhost", "::1"})


class _ProofRequest(msgspec.Struct):
    kind: BadProof
    patient: str
    proof: str = ""


class _ToolCallRequest(msgspec.Struct, rename="camel"):
    call_id: str
    url: str = ""


def add_tool_routes(
    app: web.Application, settings: Settings, calls: CallStore, *, url: str, secret: str
) -> None:
    """Add the helpers; `url` is the tool server's address, `secret` that of its credential."""

    async def proofs(request: web.Request) -> web.Response:
        body = await read_json(request, _ProofRequest)
        try:
            proof = bad_proof(settings, body.kind, proof=body.proof, patient=body.patient)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return answer({"proof": proof})

    async def tool_calls(request: web.Request) -> web.Response:
        body = await read_json(request, _ToolCallRequest)
        web_call = calls.get(body.call_id)
        if web_call is None or urlsplit(body.url or url).hostname not in _LOOPBACK:
            raise web.HTTPBadRequest(text="unknown call, or not an address of this machine")
        webhook = make_webhook(web_call.call, secret)
        try:
            return answer(await _send(webhook, body.url or url))
        except ClientError as error:
            raise web.HTTPBadGateway(text=f"the tool server cannot be reached: {error}") from None

    app.router.add_post("/proofs", proofs)
    app.router.add_post("/tool-calls", tool_calls)


async def _send(webhook: Webhook, url: str) -> dict[str, Any]:
    """Send the webhook; return it and the response."""
    async with (
        ClientSession() as client,
        client.post(url, data=webhook.body, headers=webhook.headers) as response,
    ):
        return {
            "headers": webhook.headers,
            "webhook": msgspec.Raw(webhook.body),
            "status": response.status,
            "text": await response.text(),
        }
