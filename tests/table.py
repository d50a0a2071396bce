"""The table of errors of the contract: requests for each row, and the required response."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from rig.service import PATH, claims, sign
from rig.wire import head, post

REALM = 'Bearer realm="vapi-sessions"'
INVALID_TOKEN = f'{REALM}, error="invalid_token"'
INSUFFICIENT_SCOPE = f'{REALM}, error="insufficient_scope"'
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
GZIP = "Content-Encoding: gzip"
DEFLATE = "Content-Encoding: deflate"
NOWHERE = "127.0.0.1:1"
DATES = ("exp", "nbf", "iat")
SHORT = {"SESSION_BUDGET_SECONDS": "0.2", "VAPI_TIMEOUT_SECONDS": "0.1"}

Send = Callable[[], bytes]


@dataclass(frozen=True)
class Row:
    """A request and the required error response; `details` None is not compared.

    `reason` is that of the audit line.
    """

    name: str
    status: int
    code: str
    sent: Send
    details: str | None = None
    challenge: str | None = None
    allow: str | None = None
    closes: bool = False
    reason: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}: {self.name}"


def granted(**more: Any) -> str:
    """Sign a valid token, apart from the claims given."""
    return sign(claims(**more))


def with_token(**more: Any) -> Send:
    """Send a token with these claims."""
    return lambda: head(token=granted(**more))


def with_body(body: bytes, *lines: str) -> Send:
    """Send a valid token and this body."""
    return lambda: post(body, *lines, token=sign())


def with_chunks(chunks: bytes, *lines: str) -> Send:
    """Send a valid token and these chunks."""
    return lambda: head(CHUNKED, *lines, token=sign()) + chunks


def patient_context(value: object) -> bytes:
    """Return a body with this patient context."""
    return json.dumps({"patientContext": value}).encode()


def nested(depth: int) -> bytes:
    """Return an object of `depth` nested containers, objects and lists in turn."""
    opening = [b"[" if level % 2 else b'{"a":' for level in range(depth)]
    closing = [b"]" if level % 2 else b"}" for level in reversed(range(depth))]
    return b"".join(opening) + b"1" + b"".join(closing)


def malformed() -> Iterator[Row]:
    """Bodies that are not a JSON object."""
    bodies: dict[str, tuple[bytes, list[str]]] = {
        "not JSON": (b"{]", []),
        "truncated JSON": (b'{"a":', []),
        "two values": (b"{}{}", []),
        "blank": (b"  ", []),
        "not UTF-8": (b'{"a":"\xff"}', []),
        "surrogate in UTF-8": (b'{"a":"\xed\xa0\x80"}', []),
        "UTF-16": ('{"a":1}'.encode("utf-16"), []),
        "NaN": (b'{"a":NaN}', []),
        "NaN beside half of a pair": (b'{"a":NaN,"b":"\\ud83d"}', []),
        "a list": (b"[]", []),
        "a string": (b'"x"', []),
        "an integer": (b"1", []),
        "a number": (b"1.5", []),
        "null": (b"null", []),
        "true": (b"true", []),
        "33 containers deep": (nested(33), []),
        "as deep as its size allows": (b'{"a":' + b"[" * 16000, []),
        "not gzip": (b"{}", [GZIP]),
        "truncated gzip": (gzip.compress(b'{"a":1}')[:12], [GZIP]),
        "gzip with trailing data": (gzip.compress(b"{}") + b"junk", [GZIP]),
        "truncated deflate": (zlib.compress(b"{}")[:-3], [DEFLATE]),
    }
    for name, (body, lines) in bodies.items():
        yield Row(name, 400, "INVALID_REQUEST", with_body(body, *lines))
    broken = with_chunks(b"1\r\n{}\r\n0\r\n\r\n", JSON)
    yield Row("broken chunks", 400, "INVALID_REQUEST", broken)

    def twice() -> bytes:
        return head(f"Authorization: Bearer {sign()}", token=sign())

    yield Row("two Authorization headers", 400, "INVALID_REQUEST", twice)


def contexts() -> Iterator[Row]:
    """Malformed patient contexts in the body, and unusable patient ids in the token."""
    characters = "patientContext.id must be 1 to 128 characters out of A-Z a-z 0-9 ._:@|+/=-"
    all_: dict[str, list[object]] = {
        "patientContext must be an object": [None, "pt_1", 1, [], [{"id": "pt_1"}], True],
        "patientContext.id must be a string": [
            {},
            {"ID": "pt_1"},
            {"id": None},
            {"id": 1},
            {"id": 1, "cut": "\ud83d"},
            {"id": 1.5},
            {"id": ["pt_1"]},
        ],
        characters: [
            {"id": value}
            for value in ("", "x" * 129, "p 1", "pt_1\n", "p\x00", "p*1", "p\u0661", "\ufb00")
        ],
    }
    for details, values in all_.items():
        for value in values:
            body = with_body(patient_context(value))
            yield Row(f"{value!a:.30}", 400, "INVALID_PATIENT_CONTEXT", body, details=details)
    details = "The token has no usable patient id in the claim id"
    for claim in (..., None, "", "x" * 129, "a b", "a\n", True, 1.5, ["pt_1"], {"id": "pt_1"}):
        name = f"token with the id {claim!r:.20}"
        yield Row(name, 400, "INVALID_PATIENT_CONTEXT", with_token(id=claim), details=details)


def tokens() -> Iterator[Row]:
    """Requests without a valid token."""
    yield Row("no header", 401, "AUTH_TOKEN_MISSING", head, challenge=REALM, reason="missing")
    for name, (value, reason) in authorizations().items():
        sent = _authorized(value)
        yield Row(name, 401, "AUTH_TOKEN_INVALID", sent, challenge=INVALID_TOKEN, reason=reason)
    limit = {"JWT_MAX_LIFETIME_SECONDS": "60"}
    configured: list[tuple[str, dict[str, Any], dict[str, str], str]] = [
        ("another issuer", {"iss": "other"}, {"JWT_ISSUER": "us"}, "issuer"),
        ("no issuer", {}, {"JWT_ISSUER": "us"}, "issuer"),
        ("another audience", {"aud": ["other"]}, {"JWT_AUDIENCE": "us"}, "audience"),
        ("no audience", {}, {"JWT_AUDIENCE": "us"}, "audience"),
        ("another claim", {"azp": "other"}, {"JWT_REQUIRED_CLAIMS": "azp=us"}, "claims"),
        ("lifetime over the maximum", {}, limit, "lifetime"),
        ("unknown lifetime", {"iat": ...}, limit, "lifetime"),
        ("not valid yet", {"nbf": time() + 3600}, {}, "not_yet"),
        ("issued in the future", {"iat": time() + 3600}, {}, "not_yet"),
        ("no exp", {"exp": ...}, {}, "claims"),
    ]
    configured += [(f"{date} is a string", {date: "1893456000"}, {}, "claims") for date in DATES]
    for name, more, variables, reason in configured:
        yield Row(
            name,
            401,
            "AUTH_TOKEN_INVALID",
            with_token(**more),
            challenge=INVALID_TOKEN,
            variables=variables,
            reason=reason,
        )
    old, passed = with_token(exp=time() - 6), "exp has passed"
    yield Row(passed, 401, "AUTH_TOKEN_EXPIRED", old, challenge=INVALID_TOKEN, reason="expired")


def authorizations() -> dict[str, tuple[str | bytes, str]]:
    """Return values of `Authorization` without a valid token, and the reason of each."""
    valid = sign()
    return {
        "another scheme": (f"Basic {valid}", "scheme"),
        "no scheme": (valid, "scheme"),
        "two segments": (f"Bearer {valid.rpartition('.')[0]}", "format"),
        "not ASCII": (b"Bearer \xff\xfe.\x80.a", "format"),
        "header is not JSON": ("Bearer e3.e30.e30", "format"),
        "larger than 16,000 bytes": (f"Bearer {granted(pad='x' * 16_000)}", "format"),
        "forged": (f"Bearer {sign(key='x' * 64)}", "signature"),
        "another algorithm": (f"Bearer {sign(algorithm='HS384')}", "algorithm"),
        "algorithm none": (f"Bearer {sign(key=None, algorithm='none')}e30", "algorithm"),
        "another type": ("Bearer {}".format(sign(typ="id+jwt")), "type"),
        "crit with a line break": ("Bearer {}".format(sign(crit=["a\nb"])), "format"),
        "payload is not an object": (f"Bearer {sign(b'[]')}", "format"),
    }


def _authorized(value: str | bytes) -> Send:
    raw = value if isinstance(value, bytes) else value.encode()
    return lambda: head(b"Authorization: " + raw)


def callers() -> Iterator[Row]:
    """Valid tokens without the required role, scope or patient."""
    for role in ("nurse", ["nurse"], ..., None, "Patient", {"nurse": True}):
        details = "Only patients can access voice assistant"
        sent = with_token(type=role)
        yield Row(f"role {role!r}", 403, "FORBIDDEN", sent, details=details, reason="role")
    required = {"JWT_REQUIRED_SCOPE": "voice:start"}
    for scope in (..., "", "voice", "voice:start2", ["voice:start2"], {"voice:start": 1}):
        sent = with_token(scope=scope)
        yield Row(
            f"scope {scope!r}",
            403,
            "INSUFFICIENT_SCOPE",
            sent,
            challenge=INSUFFICIENT_SCOPE,
            variables=required,
            reason="scope",
        )
    another = with_body(patient_context({"id": "pt_2"}))
    yield Row("another patient", 403, "PATIENT_MISMATCH", another, reason="mismatch")


def routes() -> Iterator[Row]:
    """Unknown paths and methods."""
    near = (f"{PATH}/", f"{PATH}/x", f"/{PATH}", PATH.upper(), PATH.rpartition("/")[0])
    for path in ("/", "/nowhere", "/metrics", "/docs", *near):
        details = "The paths are listed in /openapi.json"
        yield Row(path, 404, "NOT_FOUND", _request("POST", path), details=details)
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"):
        details = "This path takes POST"
        sent = _request(method, PATH)
        yield Row(method, 405, "METHOD_NOT_ALLOWED", sent, details=details, allow="POST")
    for path in ("/healthz", "/readyz", "/openapi.json"):
        yield Row(path, 405, "METHOD_NOT_ALLOWED", _request("POST", path), allow="GET, HEAD")


def _request(method: str, path: str) -> Send:
    return lambda: head(method=method, path=path, token=sign())


def sizes() -> Iterator[Row]:
    """Bodies that are too large or incomplete."""
    large = b"{" + b" " * 16383 + b"}"
    chunks = b"4001\r\n" + large + b"\r\n0\r\n\r\n"
    ways: dict[str, Send] = {
        "announced": lambda: head("Content-Length: 16385", JSON, token=sign()),
        "sent": with_body(large),
        "streamed": with_chunks(chunks, JSON),
        "streamed without a type": with_chunks(chunks),
        "decompressed": with_body(gzip.compress(large), GZIP),
        "decompression bomb": with_body(gzip.compress(bytes(10_000_000)), GZIP),
    }
    for name, sent in ways.items():
        yield Row(name, 413, "PAYLOAD_TOO_LARGE", sent, closes=True)
    yield Row(
        "over a configured limit",
        413,
        "PAYLOAD_TOO_LARGE",
        with_body(b'{"a":1}'),
        details="The body is larger than 6 bytes",
        closes=True,
        variables={"MAX_BODY_BYTES": "6"},
    )
    unfinished: dict[str, Send] = {
        "truncated body": lambda: head("Content-Length: 2", JSON, token=sign()) + b"{",
        "chunks without the last one": with_chunks(b"2\r\n{}\r\n", JSON),
    }
    for name, sent in unfinished.items():
        yield Row(name, 408, "REQUEST_TIMEOUT", sent, closes=True, variables=SHORT)


def media_types() -> Iterator[Row]:
    """Bodies of other media types."""
    types: Iterable[list[str]] = (
        [],
        [""],
        ["text/plain"],
        ["text/json"],
        ["application/jsonx"],
        ["application/json+x"],
        ["application/json; charset=latin-1"],
        ["application/json; CHARSET=utf-16"],
        ["application/json, text/plain"],
        ["application/x-www-form-urlencoded"],
    )
    details = "Send the body as Content-Type: application/json, in UTF-8"
    for all_ in types:
        lines = [f"Content-Type: {value}" for value in all_]
        sent = {
            f"{all_}": _typed(["Content-Length: 2", *lines], b"{}"),
            f"chunked {all_}": with_chunks(b"2\r\n{}\r\n0\r\n\r\n", *lines),
            f"compressed {all_}": _typed(
                [GZIP, f"Content-Length: {len(gzip.compress(b'{}'))}", *lines], gzip.compress(b"{}")
            ),
        }
        for name, each in sent.items():
            yield Row(name, 415, "UNSUPPORTED_MEDIA_TYPE", each, details=details)


def _typed(lines: list[str], body: bytes) -> Send:
    return lambda: head(*lines, token=sign()) + body


def upstreams() -> Iterator[Row]:
    """Upstreams that are not available."""
    jwks = {"JWT_SECRET": "", "JWT_ISSUER": "us", "JWT_JWKS_URL": f"http://{NOWHERE}/jwks"}
    key = ec.generate_private_key(ec.SECP256R1())
    sent = _authorized(f"Bearer {sign(key=key, algorithm='ES256')}")
    yield Row("no keys", 503, "AUTH_UNAVAILABLE", sent, variables=jwks)
    redis = {"REDIS_URL": f"redis://{NOWHERE}/0"}
    yield Row("no revocation list", 503, "AUTH_UNAVAILABLE", with_token(), variables=redis)
    yield Row(
        "no Vapi",
        503,
        "VAPI_SESSION_FAILED",
        with_token(),
        details="Vapi service temporarily unavailable",
        variables={"VAPI_BASE_URL": f"http://{NOWHERE}", "VAPI_CHECK_SECONDS": "30"},
    )


TABLE = [
    *malformed(),
    *contexts(),
    *tokens(),
    *callers(),
    *routes(),
    *sizes(),
    *media_types(),
    *upstreams(),
]
