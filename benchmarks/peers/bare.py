"""The upper limit of aiohttp: one handler that returns a constant."""

import sys

import uvloop
from aiohttp import web

BODY = b'{"success":true,"data":{"apiKey":"' + b"x" * 36 + b'"},"message":"constant"}'


async def start(_: web.Request) -> web.Response:
    """Return the constant."""
    return web.Response(body=BODY, headers={"Content-Type": "application/json; charset=utf-8"})


def main() -> None:
    """Serve on the port named on the command line."""
    uvloop.install()
    app = web.Application()
    app.router.add_post("/api/v1/sessions/vapi/start", start)
    port = int(sys.argv[1])
    web.run_app(app, host="127.0.0.1", port=port, backlog=1024, access_log=None, print=None)


if __name__ == "__main__":
    main()
