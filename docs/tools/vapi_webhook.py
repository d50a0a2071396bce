"""What a tool server needs around `verify_patient.py`: copy both files. Version 3.

Authentication of Vapi's webhooks, the key set of the service, protection against replay. Refusals
are `ProofError`. The functions block: asynchronous code calls them through `asyncio.to_thread`.
"""

import hmac
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from http.client import HTTPException
from math import inf
from threading import Lock, Thread
from time import monotonic, time
from typing import Any
from urllib.request import urlopen

from verify_patient import Claims, ProofError, ensure, is_text, verify_claims

MAX_BODY_BYTES = 1_048_576
TIMEOUT = 2  # seconds, for the key set
KEEP_USED = 50_000  # seconds: longer than the longest proof (1 hour) and call (12 hours) together


def authenticate_hmac(
    body: bytes, signature: str | None, timestamp: str | None, *, secret: str, window: float = 300
) -> None:
    """Check a webhook that Vapi signs. `body` is the body as received; `signature` is the header
    `x-signature`, the HMAC-SHA256 of `{timestamp}.{body}` in hex; `timestamp` is `x-timestamp`, at
    most `window` seconds away.
    """
    ensure(secret, "webhook", "The server has no secret to check webhooks with")
    ensure(is_text(signature), "webhook", "The webhook has no signature")
    ensure(re.fullmatch("[0-9]{1,15}", timestamp or ""), "webhook", "The webhook has no timestamp")
    expected = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, sha256).hexdigest()
    is_same = hmac.compare_digest(expected.encode(), str(signature).encode(errors="replace"))
    ensure(is_same, "webhook", "The signature of the webhook does not match")
    sent = int(timestamp or "")
    # Public sources do not say whether Vapi counts seconds or milliseconds: both are read.
    age = abs(time() - (sent if sent < 10**11 else sent / 1000))
    ensure(age <= window, "webhook", "The webhook was not sent just now")


def authenticate_bearer(authorization: str | None, *, token: str) -> None:
    """Check a webhook by the header `Authorization`, which carries the token of the credential."""
    ensure(token, "webhook", "The server has no token to check webhooks with")
    scheme, _, given = (authorization or "").partition(" ")
    is_same = hmac.compare_digest(given.encode(errors="replace"), token.encode())
    ensure(scheme.lower() == "bearer" and is_same, "webhook", "The bearer token does not match")


def read_tool_calls(message: Any) -> Iterator[tuple[str, str, Any]]:
    """Return id, name and arguments of each tool call in `message`, in all the shapes that Vapi's
    documentation and SDKs show. Arguments that are not a JSON object are None: answer that call
    with an error. Each result needs `toolCallId`, `name`, and `result` or `error` on one line.
    """
    for tool_call in message["toolCallList"]:
        function = tool_call.get("function", tool_call)
        arguments = function.get("arguments", function.get("parameters"))
        if isinstance(arguments, str):
            arguments = read_json(arguments)
        elif arguments is None:
            arguments = {}
        yield tool_call["id"], function["name"], arguments if isinstance(arguments, dict) else None


def read_json(text: str) -> Any:
    """Read JSON; return None when it is not."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return None


def is_tool_calls(message: Any) -> bool:
    """Return whether a webhook asks for tools; answer any other with 200 and `{}`."""
    return isinstance(message, dict) and message.get("type") == "tool-calls"


def is_too_large(content_length: str | None) -> bool:
    """Return whether a body of this `Content-Length` must be refused with 413 before it is read; so
    must one without a length.
    """
    known = re.fullmatch("[0-9]{1,15}", content_length or "")
    return known is None or int(known[0]) > MAX_BODY_BYTES


class ProofKeys:
    """The key set of the service: cached, and fetched at once when a key id is not in it.

    Fetches are at least `cooldown` seconds apart, in a thread, and take at most 2 seconds. While
    one runs or fails, old keys are used up to `max_stale` seconds. `url` is the address of
    `/.well-known/jwks.json`.
    """

    def __init__(
        self, url: str, *, max_age: float = 300, cooldown: float = 5, max_stale: float = 86_400
    ) -> None:
        self._url, self._max_age = url, max_age
        self._cooldown, self._max_stale = cooldown, max_stale
        self._jwks: Any = None
        self._fetched = self._tried = -inf
        self._lock = Lock()
        self._fetching: Thread | None = None

    def verify(self, proof: Any, call: Any, **expected: Any) -> Claims:
        """Verify with the cached keys, then with new ones if the key is not among them.

        `expected` are `issuer`, `audience` and `allowed_overrides` of `verify_patient`.
        """
        try:
            return verify_claims(proof, call, jwks=self.get(self._max_age), **expected)
        except ProofError as error:
            if error.reason != "key":
                raise
        return verify_claims(proof, call, jwks=self.get(0), **expected)

    def get(self, max_age: float) -> Any:
        """Return the key set, fetched again when it is older than `max_age` seconds."""
        fetching = self._refresh(max_age)
        is_usable = monotonic() - self._fetched < self._max_stale
        # Only a key id that is not in the cache, or an empty cache, waits for the service.
        if fetching is not None and (max_age == 0 or not is_usable):
            fetching.join(max(0, TIMEOUT - (monotonic() - self._tried)))
            is_usable = monotonic() - self._fetched < self._max_stale
        ensure(is_usable, "unavailable", "The keys of the service cannot be fetched")
        return self._jwks

    def _refresh(self, max_age: float) -> Thread | None:
        """Start to fetch old keys; return the thread that fetches."""
        with self._lock:
            now = monotonic()
            # An answer that drips is given up; the thread ends with its connection.
            lasts = now - self._tried < TIMEOUT
            is_running = lasts and self._fetching is not None and self._fetching.is_alive()
            is_due = now - self._fetched >= max_age and now - self._tried >= self._cooldown
            if is_due and not is_running:
                self._tried = now
                self._fetching = Thread(target=self._fetch, args=(now,), daemon=True)
                self._fetching.start()
            return self._fetching

    def _fetch(self, now: float) -> None:
        with suppress(OSError, ValueError, HTTPException):
            jwks = fetch(self._url)
            if now > self._fetched:
                self._jwks, self._fetched = jwks, now


def fetch(url: str) -> Any:
    """Fetch a JWK Set. Raises OSError, ValueError or HTTPException."""
    deadline, data = monotonic() + TIMEOUT, b""
    with urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310  the operator's own address
        while len(data) < 1_000_000 and (piece := response.read1(65_536)):
            data += piece
            if monotonic() > deadline:
                raise TimeoutError
        jwks = json.loads(data)
    if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
        raise ValueError("not a JWK Set")  # noqa: TRY004  a failed fetch like others
    return jwks


def refuse_replay(claims: Claims, call: Any, first_use: Callable[[str, str], str]) -> None:
    """Refuse a proof that another call has used.

    `first_use(jti, call_id)` stores the call id unless the `jti` has one already, in one step, and
    returns the one that is stored. With Redis 7: `SET proof:{jti} {call_id} NX GET EX 50000`.
    """
    ensure(is_text(call.get("id")), "call", "The call has no id")
    is_first = first_use(claims["jti"], call["id"]) == call["id"]
    ensure(is_first, "replayed", "Another call has used this proof")


class UsedProofs:
    """A `first_use` for a server of one process."""

    def __init__(self) -> None:
        self._calls: dict[str, tuple[str, float]] = {}
        self._lock = Lock()

    def __call__(self, jti: str, call_id: str) -> str:
        """Store the first call of a proof, and return it."""
        with self._lock:
            while self._calls and next(iter(self._calls.values()))[1] < monotonic() - KEEP_USED:
                del self._calls[next(iter(self._calls))]
            return self._calls.setdefault(jti, (call_id, monotonic()))[0]
