"""The comparison with the issuer's discovery document: differences are warnings."""

import json
from typing import Any

import pytest
from aiohttp import ClientSession, web

from rig.issuer import Issuer, hang, issuing
from rig.service import make_settings
from server.cli import check
from server.cli.check import compare_discovery

DOCUMENT = "the issuer's discovery document"


def provide(issuer: Issuer, document: Any) -> list[str]:
    """Serve a discovery document; return the list that receives the requested paths."""
    paths: list[str] = []

    async def respond(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        return web.Response(text=json.dumps(document))

    issuer.respond = respond
    return paths


async def compare(issuer: Issuer, name: str) -> list[str]:
    """Compare the settings for this issuer name."""
    settings = make_settings(**{**issuer.variables, "JWT_ISSUER": name})
    async with ClientSession() as session:
        return await compare_discovery(settings, session)


@pytest.mark.parametrize("slash", ["", "/"])
async def test_equal_documents_give_no_warning(slash: str) -> None:
    async with issuing() as issuer:
        name = f"http://127.0.0.1:{issuer.port}/realms/clinic{slash}"
        paths = provide(issuer, {"issuer": name, "jwks_uri": issuer.url, "more": 1})
        assert await compare(issuer, name) == []
    assert paths == ["/realms/clinic/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    ("document", "warnings"),
    [
        (
            {"issuer": "https://other.test/\x1b[31m"},
            [
                f'JWT_ISSUER: differs from issuer in {DOCUMENT}: "https://other.test/\\u001b[31m"',
                f"JWT_JWKS_URL: differs from jwks_uri in {DOCUMENT}: no text",
            ],
        ),
        ([], ["JWT_ISSUER: differs", "JWT_JWKS_URL: differs"]),
        ({"issuer": "x" * 5000, "jwks_uri": 7}, ["JWT_ISSUER: differs", "JWT_JWKS_URL: differs"]),
    ],
)
async def test_differences_are_shown_escaped_and_bounded(
    document: object, warnings: list[str]
) -> None:
    async with issuing() as issuer:
        provide(issuer, document)
        found = await compare(issuer, f"http://127.0.0.1:{issuer.port}")
    assert len(found) == len(warnings)
    for text, start in zip(found, warnings, strict=True):
        assert text.startswith(start)
        assert len(text) < 300


async def test_a_missing_document_is_a_warning() -> None:
    async with issuing() as issuer:

        async def missing(_: web.Request) -> web.StreamResponse:
            return web.Response(status=404)

        issuer.respond = missing
        assert await compare(issuer, f"http://127.0.0.1:{issuer.port}") == [
            "JWT_ISSUER: its discovery document cannot be fetched (status 404); not compared"
        ]


async def test_a_slow_document_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_TIMEOUT_SECONDS", 0.1)
    async with issuing() as issuer:
        issuer.respond = hang
        assert await compare(issuer, f"http://127.0.0.1:{issuer.port}") == [
            "JWT_ISSUER: its discovery document cannot be fetched (timeout); not compared"
        ]


async def test_an_issuer_that_is_not_an_address_is_a_warning() -> None:
    async with issuing() as issuer:
        (warning,) = await compare(issuer, "our backend")
        assert "it is not an https address" in warning
        assert issuer.fetches == 0


@pytest.mark.parametrize("name", ["", "https://issuer.example"])
async def test_without_jwks_nothing_is_fetched(name: str) -> None:
    async with ClientSession() as session:
        assert await compare_discovery(make_settings(JWT_ISSUER=name), session) == []
