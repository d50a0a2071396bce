"""`make api`: runs schemathesis against the running service and its OpenAPI document."""

import asyncio
import sys
from asyncio.subprocess import create_subprocess_exec

from rig.service import ASSISTANT_ID, make_settings, running, sign
from tests.pems import PROOF

OPTIONS = {"RATE_LIMIT": "off", "METRICS_ENABLED": "true", "LOG_LEVEL": "WARNING", **PROOF}
EVERY_FIELD = {"CONSENT_REQUIRED": "terms@1", "VAPI_ASSISTANTS": f"english:{ASSISTANT_ID}"}


async def check(settings: dict[str, str], *arguments: str) -> int:
    """Send valid and invalid requests to a service with `settings`; return the exit status."""
    async with running(make_settings(**OPTIONS, **settings)) as service:
        tool = await create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {sign()}", "--max-examples", "100"),
            *arguments,
        )
        return await tool.wait()


async def main() -> int:
    """Check the service with optional fields that it looks at, and with ones that it ignores."""
    ignored = "--exclude-checks=negative_data_rejection"
    return await check(EVERY_FIELD) or await check({}, ignored)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
