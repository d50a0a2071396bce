"""`make api`: runs schemathesis against the running service and its OpenAPI document."""

import asyncio
import sys
from asyncio.subprocess import create_subprocess_exec

from tests.server.config.test_proof_key import PROOF
from tests.support import make_settings, running, sign

EXAMPLES = "200"


async def main() -> int:
    """Start the service and send valid and invalid requests."""
    options = {"RATE_LIMIT": "off", "METRICS_ENABLED": "true", "LOG_LEVEL": "WARNING"}
    async with running(make_settings(**options, **PROOF)) as service:
        tool = await create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {sign()}", "--max-examples", EXAMPLES),
        )
        return await tool.wait()


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
