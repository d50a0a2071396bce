"""What Vapi and the identity provider say: their clocks, and the discovery document."""

import json
from datetime import UTC, datetime
from time import time
from typing import Any

import pytest
from aiohttp import ClientSession, web

from rig.issuer import Issuer, hang, issuing, responding
from rig.service import make_settings
from rig.vapi import vapi
from sandbox.vapi.app import ASSISTANT
from server.cli import comparisons
from server.cli.check import examine
from server.cli.comparisons import compare_discovery

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
    monkeypatch.setattr(comparisons, "_TIMEOUT_SECONDS", 0.1)
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


# --- clocks ----------------------------------------------------------------------------------


def clock_warnings(warnings: list[str]) -> list[str]:
    return [each for each in warnings if each.startswith("the clock: ")]


@pytest.mark.parametrize(
    ("ahead", "warning"),
    [(0, None), (50, None), (90, "behind Vapi's"), (-90, "ahead of Vapi's"), (10**9, "behind")],
)
async def test_a_clock_that_differs_from_vapis_is_a_warning(
    ahead: float, warning: str | None
) -> None:
    async with vapi() as stand_in:
        stand_in.app[ASSISTANT].clock_ahead = ahead
        variables = {"VAPI_BASE_URL": stand_in.url, "VAPI_CHECK_SECONDS": "30"}
        _, warnings = await examine(make_settings(**variables))
    found = clock_warnings(warnings)
    assert len(found) == (warning is not None)
    assert (warning or "") in "".join(found)


@pytest.mark.parametrize(
    ("headers", "differs"),
    [
        ({}, False),
        ({"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, True),
        ({"Date": "Thu, 01 Jan 2026 00:00:00 GMT", "Age": "{age}"}, False),  # from a cache
        ({"Date": "Thu, 01 Jan 2026 00:00:00 GMT", "Age": "x"}, False),
        ({"Date": "Thu, 01 Jan 2026 00:00:00 GMT", "Age": "9" * 400}, False),
        ({"Date": "soon"}, False),
    ],
)
async def test_the_clock_of_the_identity_provider(headers: dict[str, str], differs: object) -> None:
    age = int(time() - datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    filled = {name: value.format(age=age) for name, value in headers.items()}
    async with issuing() as issuer:
        issuer.respond = responding(json.dumps(issuer.document).encode(), headers=filled)
        _, warnings = await examine(make_settings(**issuer.variables))
    found = clock_warnings(warnings)
    assert ["ahead of the identity provider's" in each for each in found] == [True] * bool(differs)
