"""`make bench-host`: the cost of mounting the endpoint for the routes of a host application."""

import sys
from statistics import median

import uvloop
from aiohttp import web

from benchmarks import servers
from benchmarks.bench import CONNECTIONS
from rig import wrk
from server.app import mount
from server.config import load_settings
from tests.host.existing_backend import create_backend

ROUNDS = 15
SECONDS = 2


async def hello(_: web.Request) -> web.Response:
    """Respond as any route of the host would."""
    return web.Response(text="hello")


def serve(port: int, *, with_endpoint: bool) -> None:
    """Run the host application, with or without the endpoint."""
    uvloop.install()
    app = create_backend()
    app.router.add_get("/hello", hello)
    if with_endpoint:
        mount(app, load_settings())
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


def rate(server: servers.Server) -> float:
    """Return the responses of the host in a second."""
    prefix = ("taskset", "-c", servers.LOAD_CORE)
    return wrk.get(server, "/hello", connections=CONNECTIONS, seconds=SECONDS, prefix=prefix)


def main() -> None:
    """Measure both in alternating rounds. Print the median ratio of their throughput."""
    with servers.host(with_endpoint=False) as alone, servers.host(with_endpoint=True) as mounted:
        ratios = []
        for number in range(ROUNDS):
            order = [alone, mounted] if number % 2 else [mounted, alone]
            rates = {server.port: rate(server) for server in order}
            ratios.append(rates[alone.port] / rates[mounted.port])
    print(
        "a request takes the host application "
        f"{median(ratios):.3f} times as long with the endpoint mounted "
        f"(median of {ROUNDS} alternating rounds, {min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(int(sys.argv[1]), with_endpoint=sys.argv[2] == "mounted")
    else:
        main()
