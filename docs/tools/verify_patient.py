"""Verify the patient proof of a Vapi call. Copy this file into the tool server. Version 3.

Needs Python 3.11 and `pip install "pyjwt[crypto]>=2.10"`. Authenticate the webhook first, see
`vapi_webhook.py`: without that, `call` can say anything.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import jwt

LEEWAY = 30  # seconds
MAX_LENGTH = 4096  # characters; the service writes at most 600 in most configurations
COMPACT_JWS = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"
RFC3339 = re.compile(rf"\d{{4}}-\d\d-\d\dT{CLOCK}:[0-5]\d(\.\d{{1,9}})?(Z|[+-]{CLOCK})", re.ASCII)

DEFAULT_OVERRIDES = ("variableValues.patientProof",)
DEFINITIONS = ("assistant", "squad", "squadId", "workflow", "workflowId", "assistantVersion")

Claims = dict[str, Any]


class ProofError(Exception):
    """The proof is refused. `reason` is one word for programs; the text is a sentence for the log,
    and repeats nothing of the proof.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def ensure(condition: object, reason: str, text: str) -> None:
    """Raise `ProofError` unless the condition is true."""
    if not condition:
        raise ProofError(reason, text)


def verify_patient(
    proof: Any,
    call: Any,
    *,
    jwks: Any,
    issuer: str,
    audience: str,
    allowed_overrides: Iterable[str] = DEFAULT_OVERRIDES,
) -> str:
    """Return the patient id of a proof, or raise `ProofError`.

    `call` is `message.call` of the webhook, `jwks` the parsed key set of the service, `issuer` and
    `audience` are its PROOF_ISSUER and PROOF_AUDIENCE. `allowed_overrides` are the overrides that
    the app may start the call with, see `changed_overrides`.
    """
    expected = {"issuer": issuer, "audience": audience, "allowed_overrides": allowed_overrides}
    return str(verify_claims(proof, call, jwks=jwks, **expected)["sub"])


def verify_claims(
    proof: Any,
    call: Any,
    *,
    jwks: Any,
    issuer: Any,
    audience: Any,
    allowed_overrides: Any = DEFAULT_OVERRIDES,
) -> Claims:
    """Verify as `verify_patient` does, and return all claims of the proof. With consents required,
    `consent` has their versions by name.
    """
    # Vapi sends the template itself, {{patientProof}}, when the app did not set the variable.
    unset = proof in (None, "") or (isinstance(proof, str) and proof.startswith("{{"))
    ensure(not unset, "missing", "The call carries no patient proof")
    compact = isinstance(proof, str) and len(proof) <= MAX_LENGTH and COMPACT_JWS.fullmatch(proof)
    ensure(compact, "malformed", "The proof is not a compact JWS, or is too long")
    header_data, payload, _ = map(decode, proof.split("."))
    header = read_object(header_data)
    ensure(header.get("alg") == "ES256", "algorithm", "The proof is not signed with ES256 (alg)")
    is_proof = header.get("typ") == "patient-proof+jwt"
    ensure(is_proof, "type", "The token is not a patient proof (typ)")
    extended = "crit" in header or "b64" in header
    ensure(not extended, "extension", "The proof requires an extension of JWS (crit or b64)")
    keys = find_keys(jwks, header.get("kid"))
    signed = any(verifies(proof, key) for key in keys)
    ensure(signed, "signature", "The signature of the proof does not verify")
    claims = read_object(payload)
    is_ours = is_text(claims.get("iss")) and claims["iss"] == issuer
    ensure(is_ours, "issuer", "The proof was issued by another service (iss)")
    is_for_us = is_text(claims.get("aud")) and claims["aud"] == audience
    ensure(is_for_us, "audience", "The proof was issued for another audience (aud)")
    for name, is_valid in (("sub", is_text), ("jti", is_text), ("iat", is_date), ("exp", is_date)):
        ensure(is_valid(claims.get(name)), "claims", f"The proof has no valid {name}")
    check_call(claims, call)
    is_locked = not changed_overrides(call, allowed_overrides)
    ensure(is_locked, "overrides", "The call was started with overrides that are not allowed")
    return claims


def changed_overrides(
    call: dict[str, Any], allowed: Iterable[str] = DEFAULT_OVERRIDES
) -> list[str]:
    """Return the overrides of a call that are not allowed, and what else defines its assistant.

    An allowed name is a dotted path, and allows what lies below it. Of each override that is not
    allowed, the shortest path is returned. A key that contains a dot is never allowed.
    """
    names = [name for name in DEFINITIONS if call.get(name) is not None]
    overrides = call.get("assistantOverrides")
    if overrides is None:
        return names
    if not isinstance(overrides, dict):
        return [*names, "assistantOverrides"]
    return [*names, *not_allowed([], overrides, [each.split(".") for each in allowed])]


def not_allowed(
    parent: list[str], values: dict[str, Any], allowed: list[list[str]]
) -> Iterator[str]:
    """Find the overrides below `parent` that are not allowed."""
    for key, value in values.items():
        path = [*parent, key]
        if path in allowed:  # the parts of an allowed path contain no dot
            continue
        leads = any(len(each) > len(path) and each[: len(path)] == path for each in allowed)
        if leads and isinstance(value, dict) and value:
            yield from not_allowed(path, value, allowed)
        else:
            yield ".".join(path)


def verifies(proof: str, key: jwt.PyJWK) -> bool:
    """Return whether the signature of a proof verifies with a key."""
    with suppress(jwt.PyJWTError):
        jwt.PyJWS().decode(proof, key, algorithms=["ES256"])
        return True
    return False


def find_keys(jwks: Any, key_id: object) -> list[jwt.PyJWK]:
    """Find the public P-256 keys with a key id in a JWK Set (RFC 7517)."""
    is_set = isinstance(jwks, dict) and isinstance(jwks.get("keys"), list)
    ensure(is_set, "jwks", "The key set is not a JWK Set")
    expected = {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": key_id}
    keys = []
    for entry in jwks["keys"] if is_text(key_id) else ():
        jwk = {"use": "sig", "alg": "ES256", **entry} if isinstance(entry, dict) else {}
        # A published private key (d) proves nothing.
        if "d" not in jwk and all(jwk.get(name) == value for name, value in expected.items()):
            with suppress(jwt.PyJWTError, TypeError, ValueError):
                keys.append(jwt.PyJWK(jwk))
    ensure(keys, "key", "The key set has no usable key with the kid of the proof")
    return keys


def check_call(claims: Claims, call: Any) -> None:
    """Check that the proof is for the call's assistant, and was valid when the call began."""
    ensure(isinstance(call, dict), "call", "The webhook has no call")
    assistant = claims.get("assistantId")
    is_same = is_text(assistant) and call.get("assistantId") == assistant
    ensure(is_same, "assistant", "The proof was issued for another assistant")
    created_at = read_time(call.get("createdAt"))
    in_window = claims["iat"] - LEEWAY <= created_at <= claims["exp"] + LEEWAY
    ensure(in_window, "window", "The call was not created while the proof was valid")


def read_time(value: Any) -> float:
    """Read an RFC 3339 time; return seconds since the epoch."""
    with suppress(ValueError):  # such as 30 February
        if isinstance(value, str) and RFC3339.fullmatch(value):
            return datetime.fromisoformat(value).timestamp()
    raise ProofError("created_at", "The call has no valid createdAt")


def decode(segment: str) -> bytes:
    """Decode base64url. Of several spellings of the same bytes one is accepted."""
    with suppress(ValueError):
        data = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        if urlsafe_b64encode(data).rstrip(b"=") == segment.encode():
            return data
    raise ProofError("malformed", "The proof is not made of base64url")


def read_object(data: bytes) -> Claims:
    """Read a JSON object in UTF-8."""
    with suppress(ValueError, RecursionError):
        # `int` refuses NaN and Infinity, which are not JSON.
        value = json.loads(data.decode(), parse_constant=int)
        if isinstance(value, dict):
            return value
    raise ProofError("malformed", "The proof is not made of JSON objects")


def is_text(value: object) -> bool:
    """Return whether a value is a string of at least one character."""
    return isinstance(value, str) and value != ""


def is_date(value: object) -> bool:
    """Return whether a value is a NumericDate (RFC 7519 section 2): not a boolean, not NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53
