"""Version 2 replayed: without the new settings no byte differs, but ids, times and new fields.

`recorded/version_2.json` has requests with dates that stay valid, and what commit 45a1c09, the last
of version 2, answered and wrote to the audit log.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import jwt
import pytest

from rig.wire import connected
from tests.conftest import AuditLines, Serve

GROUPS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "recorded" / "version_2.json").read_text()
)

NEW_FIELDS = {"assistant_id", "consent", "reason", "instance", "seq"}
"""Documented in docs/operations.md; the rest of an audit line is as it was."""

_CHANGING = [
    r"(?<=\r\nX-Request-ID: )[0-9a-f]{32}(?=\r\n)",
    r"(?<=\r\nDate: )[^\r]+",
    r"(?<=total;dur=)[0-9.]+",
    r'(?<=validatedAt":")[^"]+',
    r'(?<=expiresAt":")[^"]+',
    r"(?<=request )[0-9a-f]{32}",
]
_SIGNED = re.compile(r'(?<=")eyJ[^"]+')
_TIMES_AND_IDS = {"iat", "exp", "jti"}
_LINE = {"timestamp", "duration_ms", "request_id", "proof_id"}


def settled(response: str) -> str:
    """Return a response without ids and times; a signed token is replaced by what it says."""
    for pattern in _CHANGING:
        response = re.sub(pattern, "*", response)
    return _SIGNED.sub(lambda found: json.dumps(said(found[0])), response)


def said(token: str) -> list[dict[str, Any]]:
    claims = jwt.decode(token, options={"verify_signature": False})
    changed = dict.fromkeys(_TIMES_AND_IDS & claims.keys(), "*")
    return [jwt.get_unverified_header(token), {**claims, **changed}]


def settled_line(line: dict[str, Any]) -> list[tuple[str, object]]:
    """Return the fields of an audit line in their order, without new ones, ids and times."""
    return [
        (name, "*" if name in _LINE and value is not None else value)
        for name, value in line.items()
        if name not in NEW_FIELDS
    ]


async def exchange(port: Any, request: str) -> str:
    async with connected(port) as (reader, writer):
        writer.write(request.encode("latin-1"))
        async with asyncio.timeout(10):
            response = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", response)
            if length and not request.startswith("HEAD"):
                response += await reader.readexactly(int(length[1]))
    return response.decode("latin-1")


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: ",".join(group["variables"]))
async def test_no_byte_differs(group: Any, serve: Serve, audit_lines: AuditLines) -> None:
    service = await serve(**group["variables"])
    for recorded in group["exchanges"]:
        response = await exchange(service, recorded["request"])
        assert settled(response) == settled(recorded["response"]), recorded["name"]
        lines = [settled_line(line) for line in audit_lines()]
        assert lines == [settled_line(json.loads(line)) for line in recorded["audit"]], recorded
