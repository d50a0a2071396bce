"""`make api`: schemathesis against the service that really runs, from the document it serves."""

import asyncio
import sys
from asyncio.subprocess import create_subprocess_exec

from tests.support import make_settings, running, sign

EXAMPLES = "200"


async def main() -> int:
    """Start the service, try everything its document allows and much that it does not."""
    async with running(
        make_settings(RATE_LIMIT="off", METRICS_ENABLED="true", LOG_LEVEL="WARNING")
    ) as service:
        tool = await create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {sign()}", "--max-examples", EXAMPLES),
        )
        return await tool.wait()


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
