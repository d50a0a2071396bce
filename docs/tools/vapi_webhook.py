"""What a tool server needs around `verify_patient.py`: copy both files.

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
from threading import Lock
from time import monotonic, time
from typing import Any
from urllib.request import urlopen

from verify_patient import Claims, ProofError, ensure, is_text, verify_claims

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
    documentation and SDKs show.
    """
    for tool_call in message["toolCallList"]:
        function = tool_call.get("function", tool_call)
        arguments = function.get("arguments", function.get("parameters"))
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        yield tool_call["id"], function["name"], arguments or {}


class ProofKeys:
    """The key set of the service: cached, and fetched at once when a key id is not in it.

    Fetches are at least `cooldown` seconds apart. While they fail, old keys are used up to
    `max_stale` seconds. `url` is the address of `/.well-known/jwks.json`.
    """

    def __init__(
        self, url: str, *, max_age: float = 300, cooldown: float = 5, max_stale: float = 86_400
    ) -> None:
        self._url, self._max_age = url, max_age
        self._cooldown, self._max_stale = cooldown, max_stale
        self._jwks: Any = None
        self._fetched = self._tried = -inf
        self._lock = Lock()

    def verify(self, proof: Any, call: Any, *, issuer: str, audience: str) -> Claims:
        """Verify with the cached keys, then with new ones if the key is not among them."""
        expected = {"issuer": issuer, "audience": audience}
        try:
            return verify_claims(proof, call, jwks=self.get(self._max_age), **expected)
        except ProofError as error:
            if error.reason != "key":
                raise
        return verify_claims(proof, call, jwks=self.get(0), **expected)

    def get(self, max_age: float) -> Any:
        """Return the key set, fetched again when it is older than `max_age` seconds."""
        with self._lock:
            now = monotonic()
            if now - self._fetched >= max_age and now - self._tried >= self._cooldown:
                self._tried = now
                with suppress(OSError, ValueError, HTTPException):
                    self._jwks, self._fetched = fetch(self._url), now
            is_usable = now - self._fetched < self._max_stale
            ensure(is_usable, "unavailable", "The keys of the service cannot be fetched")
            return self._jwks


def fetch(url: str) -> Any:
    """Fetch a JWK Set. Raises OSError, ValueError or HTTPException."""
    with urlopen(url, timeout=2) as response:  # noqa: S310  the operator's own address
        jwks = json.loads(response.read(1_000_000))
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
