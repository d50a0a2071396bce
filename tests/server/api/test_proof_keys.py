"""The public keys of patient proofs over HTTP."""

import pytest
from aiohttp import ClientSession, web

from rig.service import Service, make_settings
from server.app import mount
from server.proof import public_jwk, public_jwks
from tests import pems
from tests.conftest import AuditLines, Serve
from tests.pems import OTHER_P256, PROOF

JWKS = "/.well-known/jwks.json"


async def test_all_keys_are_published(serve: Serve) -> None:
    keys = [pems.P256, OTHER_P256]
    service = await serve(**{**PROOF, "PROOF_KEY": "".join(map(pems.private, keys))})
    answer = await service.ask("GET", JWKS)
    assert (answer.status, answer.json) == (200, public_jwks(keys))
    headers = answer.response.headers
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["Cache-Control"] == "public, max-age=300"
    assert {"X-Content-Type-Options", "X-Request-ID", "Server-Timing"} <= set(headers)
    assert "Server" not in headers


async def test_other_methods(serve: Serve) -> None:
    service = await serve(**PROOF)
    answer = await service.ask("HEAD", JWKS)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.response.headers["Cache-Control"] == "public, max-age=300"
    for method in ("POST", "PUT", "DELETE"):
        answer = await service.ask(method, JWKS)
        assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED")
        assert answer.response.headers["Cache-Control"] == "no-store"


async def test_without_key_there_is_no_such_path(service: Service) -> None:
    for path in (JWKS, "/.well-known/jwks.json/", "/jwks.json"):
        answer = await service.ask("GET", path)
        assert (answer.status, answer.code) == (404, "NOT_FOUND")
        assert answer.response.headers["Cache-Control"] == "no-store"


async def mounted(host: web.Application, paths: list[str]) -> list[tuple[int, str, bytes, str]]:
    """Serve a host application; return status, `Cache-Control`, body and `Server` of each path."""
    runner = web.AppRunner(host)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        found = []
        async with ClientSession() as client:
            for path in paths:
                async with client.get(url + path) as answer:
                    cache = answer.headers.get("Cache-Control", "")
                    server = answer.headers.get("Server", "")
                    found.append((answer.status, cache, await answer.read(), server))
        return found
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("prefix", ["/api/v1/sessions", "", "/voice/"])
async def test_host_serves_the_keys_under_its_prefix(prefix: str) -> None:
    host = web.Application()
    mount(host, make_settings(**PROOF), prefix=prefix)
    base = prefix.rstrip("/")
    paths = [f"{base}/jwks.json", f"{base}/jwks.json/more", JWKS, f"{base}/other"]
    keys, below, well_known, other = await mounted(host, paths)
    assert keys[:2] == (200, "public, max-age=300")
    assert public_jwk(pems.P256)["kid"].encode() in keys[2]
    assert keys[3] == ""
    for answer in (below, well_known, other):
        assert answer[:3:2] == (404, b"404: Not Found")  # the host's own


async def test_host_without_key_keeps_the_path() -> None:
    async def own(_: web.Request) -> web.Response:
        return web.Response(text="the host's")

    host = web.Application()
    host.router.add_get("/api/v1/sessions/jwks.json", own)
    mount(host, make_settings())
    [found] = await mounted(host, ["/api/v1/sessions/jwks.json"])
    assert found[:3] == (200, "", b"the host's")


async def test_requests_for_keys_have_no_audit_line(serve: Serve, audit_lines: AuditLines) -> None:
    service = await serve(**PROOF)
    await service.ask("GET", JWKS)
    await service.start()
    assert len(audit_lines()) == 1
