"""docs/clients/dpop.md, run in Node.js: a key, a token that is bound to it, and sessions."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from rig.service import claims, sign
from sandbox.serving import bind, origin, serving
from server.auth.tokens import base64url_decode
from tests.conftest import Serve
from tests.dpop import PUBLIC_URL, REQUIRE, thumbprint
from tests.recipes.support import CLIENTS, HERE, blocks, run_node

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")


async def issue(request: web.Request) -> web.Response:
    """Issue a token for the key of the proof, as a provider that supports DPoP."""
    header, payload, _ = request.headers["DPoP"].split(".")
    jwk = json.loads(base64url_decode(header.encode()))["jwk"]
    assert "ath" not in json.loads(base64url_decode(payload.encode()))
    return web.Response(text=sign(claims(cnf={"jkt": thumbprint(jwk)})))


@pytest.fixture
async def token_url() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/token", issue)
    with bind() as port:
        async with serving(app, port):
            yield f"{origin(port)}/token"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Return a folder with the page's code, and session.js with the change that the page names."""
    (code,) = blocks("dpop", "js")
    (tmp_path / "dpop.js").write_text(code)
    session, change = (CLIENTS / "session.js").read_text(), "fetchBound(key, token, url, {"
    assert session.count("fetch(url, {") == 1
    assert f"`{change}`" in (CLIENTS / "dpop.md").read_text()
    imported = 'import { fetchBound } from "./dpop.js";\n'
    (tmp_path / "session.js").write_text(imported + session.replace("fetch(url, {", change))
    (tmp_path / "drivers").mkdir()
    shutil.copy(HERE / "drivers" / "dpop.mjs", tmp_path / "drivers")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return tmp_path


@pytest.mark.parametrize(
    ("clock_seconds", "statuses"),
    [(0, [200, 200]), (40, [200, 200]), (-3600, [401, 200, 200]), (86400, [401, 200, 200])],
)
async def test_sessions_with_a_wrong_clock(
    app: Path, token_url: str, serve: Serve, clock_seconds: int, statuses: list[int]
) -> None:
    service = await serve(**REQUIRE)
    options = {"tokenUrl": token_url, "publicUrl": PUBLIC_URL, "clockMs": clock_seconds * 1000}
    report = await run_node(app / "drivers" / "dpop.mjs", {**options, "url": service.url})
    assert report == {"patients": ["pt_1"] * 2, "statuses": statuses, "readable": False}
