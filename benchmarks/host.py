"""`make bench-host`: whether a host application slows down when the endpoint is mounted in it."""

import sys
from statistics import median

import uvloop
from aiohttp import web

from benchmarks import servers
from benchmarks.bench import wrk_get
from server.app import mount
from server.config import load_settings
from tests.host.existing_backend import create_backend

ROUNDS = 15
SECONDS = 2


async def hello(_: web.Request) -> web.Response:
    """Stand for any route of the host."""
    return web.Response(text="hello")


def serve(port: int, *, with_endpoint: bool) -> None:
    """Run the host application, with the endpoint mounted or without."""
    uvloop.install()
    app = create_backend()
    app.router.add_get("/hello", hello)
    if with_endpoint:
        mount(app, load_settings())
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


def main() -> None:
    """Measure both in alternating rounds, and print the median ratio of what they answer."""
    with servers.host(with_endpoint=False) as alone, servers.host(with_endpoint=True) as mounted:
        ratios = []
        for number in range(ROUNDS):
            order = [alone, mounted] if number % 2 else [mounted, alone]
            seen = {server.port: wrk_get(server, "/hello", SECONDS) for server in order}
            ratios.append(seen[alone.port] / seen[mounted.port])
    print(
        f"a request takes the host {median(ratios):.3f} times as long with the endpoint mounted "
        f"(median of {ROUNDS} alternating rounds, {min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(int(sys.argv[1]), with_endpoint=sys.argv[2] == "mounted")
    else:
        main()
