"""Development mode as the tests use it."""

from typing import Any

from aiohttp import ClientSession

from sandbox.development import Companions
from server.config import Settings

SECRET = "the secret of the HMAC credential"

Answer = tuple[int, Any]


class Sandbox:
    """Development mode, running."""

    def __init__(self, settings: Settings, companions: Companions, client: ClientSession) -> None:
        self.settings = settings
        self.companions = companions
        self.client = client
        self.url = f"http://127.0.0.1:{settings.port}"
        self.config: dict[str, Any] = {}

    async def token(self, kind: str, patient: str = "pt_1001") -> str:
        _, answer = await self.lab("tokens", {"kind": kind, "patient": patient})
        return str(answer["token"])

    async def lab(self, path: str, body: object) -> Answer:
        async with self.client.post(f"{self.config['lab']}/{path}", json=body) as answer:
            text = await answer.text()
            return answer.status, await answer.json() if text.startswith("{") else text

    async def start(self, token: str, kind: str = "public_key") -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.client.post(self.config["endpoints"][kind], headers=headers) as answer:
            return answer.status, await answer.json()
