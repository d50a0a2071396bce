"""Development mode against other sites: `Host` and `Origin`, over real sockets."""

import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

from rig.service import PATH
from sandbox.development import Companions, create_development
from sandbox.local_requests import local_hosts
from sandbox.serving import bind, origin, serving
from sandbox.settings import development_settings
from tests.conftest import AuditLines
from tests.sandbox.support import SECRET

LISTED = "http://localhost:5173"
"""The address of an app's development server, in CORS_ALLOWED_ORIGINS."""


class RebindingResolver(AbstractResolver):
    """Resolves every name to loopback, like the DNS server of an attacker."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


class Sandbox:
    """The ports of development mode, and a client that sends any `Host` and `Origin`."""

    def __init__(self, ports: dict[str, int], client: ClientSession) -> None:
        self.ports = ports
        self._client = client

    def expand(self, text: str, name: str) -> str:
        """Fill in the ports: `PORT` of the named server, `PAGE` of the page."""
        return text.replace("PORT", str(self.ports[name])).replace("PAGE", str(self.ports["page"]))

    async def send(
        self, name: str, host: str, *origins: str, method: str = "GET", path: str = "/healthz"
    ) -> tuple[int, dict[str, str], str]:
        headers = [("Host", self.expand(host, name))] if host else [("Host", "")]
        headers += [("Origin", self.expand(each, name)) for each in origins]
        if method == "OPTIONS":
            headers.append(("Access-Control-Request-Method", "POST"))
        url = f"http://rebound.example:{self.ports[name]}{path}"
        async with self._client.request(method, url, headers=headers) as response:
            return response.status, dict(response.headers), await response.text()


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    page = bind()
    companions = Companions(vapi=bind(), lab=bind(), tokens=bind(), tools=bind(), mobile=bind())
    port = str(page.getsockname()[1])
    environ = {"PORT": port, "CORS_ALLOWED_ORIGINS": LISTED}
    settings = development_settings(environ, origin(companions.vapi))
    assert companions.mobile is not None
    listeners = {
        "page": page,
        "tokens": companions.tokens,
        "lab": companions.lab,
        "vapi": companions.vapi,
        "mobile": companions.mobile,
        "tools": companions.tools,
    }
    ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
    connector = TCPConnector(resolver=RebindingResolver(), use_dns_cache=False)
    async with (
        serving(create_development(settings, companions, SECRET), page),
        ClientSession(connector=connector) as client,
    ):
        yield Sandbox(ports, client)


EVERY_SERVER = ["page", "tokens", "lab", "vapi", "mobile", "tools"]


async def test_local_names_are_served(sandbox: Sandbox) -> None:
    for name in EVERY_SERVER:
        for host in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]", "10.0.2.2"):
            status, _, _ = await sandbox.send(name, f"{host}:PORT")
            assert status != 403, (name, host)


OTHER_HOSTS = [
    "rebound.example:PORT",
    "rebound.example",
    "127.0.0.1",
    "localhost",
    "127.0.0.1:1",
    "127.0.0.2:PORT",
    "localhost.:PORT",
    "localhost.rebound.example:PORT",
    "user@localhost:PORT",
    "::1:PORT",
    "10.0.2.3:PORT",
    "",
]


async def test_other_hosts_are_forbidden(sandbox: Sandbox) -> None:
    for name in EVERY_SERVER:
        for host in OTHER_HOSTS:
            status, _, body = await sandbox.send(name, host)
            assert (status, "Host must be" in body) == (403, True), (name, host)


async def test_own_and_listed_origins_are_served(sandbox: Sandbox) -> None:
    for name, more in (
        ("page", [LISTED]),
        ("tokens", ["http://127.0.0.1:PAGE"]),
        ("lab", ["http://127.0.0.1:PAGE"]),
        ("vapi", [LISTED, "https://evil.example", "null"]),
    ):
        for each in ("http://127.0.0.1:PORT", *more):
            status, _, _ = await sandbox.send(name, "127.0.0.1:PORT", each)
            assert status != 403, (name, each)


OTHER_ORIGINS = [
    ["https://evil.example"],
    ["null"],
    ["https://127.0.0.1:PORT"],
    ["http://127.0.0.1"],
    ["http://127.0.0.1:1"],
    ["http://localhost:PORT"],
    ["http://127.0.0.1:PORT", "https://evil.example"],
    [""],
]


async def test_other_origins_are_forbidden(sandbox: Sandbox) -> None:
    for name in ("page", "tokens", "lab", "tools"):
        for origins in OTHER_ORIGINS:
            status, _, body = await sandbox.send(name, "127.0.0.1:PORT", *origins)
            assert (status, "Origin must be" in body) == (403, True), (name, origins)


def test_port_may_be_omitted_only_if_it_is_80() -> None:
    assert {"localhost", "localhost:80", "[::1]", "[::1]:80"} <= local_hosts(80)
    assert local_hosts(8080) == {
        "127.0.0.1:8080",
        "localhost:8080",
        "[::1]:8080",
        "10.0.2.2:8080",
    }


async def test_rebound_preflight_of_a_listed_origin_is_forbidden(sandbox: Sandbox) -> None:
    args = {"method": "OPTIONS", "path": PATH}
    assert (await sandbox.send("page", "localhost:PORT", LISTED, **args))[0] == 204
    assert (await sandbox.send("page", "rebound.example:PORT", LISTED, **args))[0] == 403


async def test_rejection_has_envelope_headers_and_audit_line(
    sandbox: Sandbox, audit_lines: AuditLines
) -> None:
    status, headers, body = await sandbox.send(
        "page", "rebound.example:PORT", method="POST", path=PATH
    )
    assert status == 403
    assert '"code":"FORBIDDEN"' in body
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    (line,) = audit_lines()
    assert (line["outcome"], line["code"]) == ("denied", "FORBIDDEN")
    assert line["request_id"] == headers["X-Request-ID"]


async def test_playground_is_served_to_a_local_browser_only(sandbox: Sandbox) -> None:
    for path in ("/playground", "/playground/config.json", "/playground/static/main.js"):
        assert (await sandbox.send("page", "127.0.0.1:PORT", path=path))[0] == 200
        assert (await sandbox.send("page", "rebound.example:PORT", path=path))[0] == 403
