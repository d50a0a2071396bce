"""What `check` says of Vapi's clock, and of the clock and the document of the identity provider."""

import json
from datetime import UTC, datetime
from time import time
from typing import Any

import pytest
from aiohttp import web

from rig.issuer import Issuer, hang, issuing, responding
from rig.service import make_settings
from rig.vapi import vapi
from sandbox.vapi.app import ASSISTANT
from server.cli import check
from server.cli.check import examine

DOCUMENT = "the issuer's discovery document"
MISSING = "JWT_ISSUER: its discovery document cannot be fetched"


def provide(issuer: Issuer, document: Any) -> list[str]:
    """Serve keys and a discovery document; return the list that receives the requested paths."""
    paths: list[str] = []

    async def respond(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        is_keys = issuer.url.endswith(request.path)
        return web.Response(text=json.dumps(issuer.document if is_keys else document))

    issuer.respond = respond
    return paths


async def compare(issuer: Issuer, name: str) -> list[str]:
    """Compare the settings for this issuer name."""
    own = {"JWT_ISSUER": name, "JWKS_TIMEOUT_SECONDS": "0.1"}
    _, warnings = await examine(make_settings(**{**issuer.variables, **own}))
    return [each for each in warnings if "discovery" in each]


@pytest.mark.parametrize("slash", ["", "/"])
async def test_equal_documents_give_no_warning(slash: str) -> None:
    async with issuing() as issuer:
        name = f"http://127.0.0.1:{issuer.port}/realms/clinic{slash}"
        paths = provide(issuer, {"issuer": name, "jwks_uri": issuer.url, "more": 1})
        assert await compare(issuer, name) == []
    assert paths[1:] == ["/realms/clinic/.well-known/openid-configuration"]


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


async def test_a_document_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_TIMEOUT_SECONDS", 0.1)
    async with issuing() as issuer:
        name = f"http://127.0.0.1:{issuer.port}"
        issuer.respond = responding(b"", 404)
        assert await compare(issuer, name) == [f"{MISSING} (status 404); not compared"]
        issuer.respond = hang
        assert await compare(issuer, name) == [f"{MISSING} (timeout); not compared"]
        issuer.respond, fetches = None, issuer.fetches
        assert await compare(issuer, "our backend") == [
            f"{MISSING} (it is not an https address); not compared"
        ]
        assert issuer.fetches == fetches + 1  # the keys


async def test_without_jwks_nothing_is_fetched() -> None:
    _, warnings = await examine(make_settings(JWT_ISSUER="https://issuer.example"))
    assert warnings == []


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


OLD = "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "differs"),
    [
        ({}, False),
        ({"Date": OLD}, True),
        ({"Date": OLD, "Age": "{age}"}, False),  # from a cache
        ({"Date": OLD, "Age": "x"}, False),
        ({"Date": OLD, "Age": "9" * 400}, False),
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
