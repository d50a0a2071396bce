"""A backend with multiprocess metrics: it prints one scrape."""

import asyncio
import sys

from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from rig.service import PATH, sign
from server.app import mount
from server.config import load_settings
from tests.host.existing_backend import create_backend


async def main() -> None:
    """Count a visit, start a session, and scrape."""
    Counter("visits", "The host's own.").inc()
    app = create_backend()
    mount(app, load_settings())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}"
    async with (
        ClientSession(headers={"Authorization": f"Bearer {sign()}"}) as client,
        client.post(url, raise_for_status=True),
    ):
        pass
    await runner.cleanup()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus_client's
    sys.stderr.write(generate_latest(registry).decode())


if __name__ == "__main__":
    asyncio.run(main())
