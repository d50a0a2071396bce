"""CORS: scripts of listed origins can read the responses."""

import pytest

from middlewares.cors import cors
from tests.middlewares.support import Alone

LISTED = "https://app.example"
ORIGINS = (LISTED, "http://localhost:3000")
OTHER_ORIGINS = ["https://app.example.evil", "http://app.example", "HTTPS://APP.EXAMPLE", "*", ""]
PREFLIGHT = {"Access-Control-Request-Method": "POST"}


@pytest.mark.parametrize("origin", ORIGINS)
async def test_listed_origin_can_read_responses(alone: Alone, origin: str) -> None:
    client = await alone(cors(origins=ORIGINS))
    async with client.post("/", headers={"Origin": origin}) as response:
        assert await response.text() == "hello"
        assert response.headers["Access-Control-Allow-Origin"] == origin
        exposed = set(response.headers["Access-Control-Expose-Headers"].split(", "))
        assert exposed == {"X-Request-ID", "Retry-After", "Server-Timing", "WWW-Authenticate"}
        assert response.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
async def test_what_is_not_a_preflight_reaches_the_handler(alone: Alone, method: str) -> None:
    headers = {"Origin": LISTED, **(PREFLIGHT if method == "POST" else {})}
    client = await alone(cors(origins=ORIGINS))
    async with client.request(method, "/", headers=headers) as response:
        assert await response.text() == "hello"


@pytest.mark.parametrize("origins", [(), ORIGINS])
async def test_without_an_origin_or_without_origins(alone: Alone, origins: tuple[str, ...]) -> None:
    client = await alone(cors(origins=origins))
    async with client.post("/", headers={} if origins else {"Origin": LISTED}) as response:
        assert await response.text() == "hello"
        assert response.headers.get("Vary") == ("Origin" if origins else None)
        assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_further_headers_are_allowed_and_exposed(alone: Alone) -> None:
    options = {"request_headers": ["DPoP"], "exposed_headers": ["Date"]}
    client = await alone(cors(origins=ORIGINS, **options))
    async with client.options("/", headers={"Origin": LISTED, **PREFLIGHT}) as response:
        allowed = response.headers["Access-Control-Allow-Headers"]
        assert allowed == "Authorization, Content-Type, X-Request-ID, traceparent, DPoP"
    async with client.post("/", headers={"Origin": LISTED}) as response:
        assert response.headers["Access-Control-Expose-Headers"].endswith("WWW-Authenticate, Date")


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
@pytest.mark.parametrize("origin", OTHER_ORIGINS)
async def test_other_origins_get_no_headers(alone: Alone, origin: str, method: str) -> None:
    client = await alone(cors(origins=ORIGINS))
    async with client.request(method, "/", headers={"Origin": origin, **PREFLIGHT}) as response:
        assert await response.text() == "hello"
        assert not [name for name in response.headers if name.startswith("Access-Control")]
        assert response.headers["Vary"] == "Origin"


async def test_preflight_is_answered_without_calling_the_handler(alone: Alone) -> None:
    client = await alone(cors(origins=ORIGINS))
    async with client.options("/", headers={"Origin": LISTED, **PREFLIGHT}) as response:
        assert (response.status, await response.read()) == (204, b"")
        assert response.headers["Access-Control-Allow-Origin"] == LISTED
        assert response.headers["Access-Control-Allow-Methods"] == "POST"
        allowed = set(response.headers["Access-Control-Allow-Headers"].split(", "))
        assert allowed == {"Authorization", "Content-Type", "X-Request-ID", "traceparent"}
        assert response.headers["Access-Control-Max-Age"] == "600"
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        assert response.headers["Vary"] == "Origin"
