"""Patient proofs: compact JWS (RFC 7515) with ES256, and their public keys as a JWK Set."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Final, NamedTuple

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from jwt.algorithms import ECAlgorithm

from middlewares.context import Clock
from server.config import Settings
from server.config.keys import PROOF_TYPE, load_proof_keys


def public_jwks(keys: Iterable[EllipticCurvePrivateKey]) -> dict[str, list[dict[str, str]]]:
    """Return the JWK Set with the public half of each key."""
    return {"keys": [public_jwk(key) for key in keys]}


def public_jwk(key: EllipticCurvePrivateKey) -> dict[str, str]:
    """Return the public half of a key, with its thumbprint as key id."""
    members: dict[str, Any] = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**members, "kid": thumbprint(members), "use": "sig", "alg": "ES256"}


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the SHA-256 thumbprint of a public key (RFC 7638)."""
    required = {name: jwk[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in jwk}
    text = json.dumps(required, sort_keys=True, separators=(",", ":"))
    return urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()


_ALGORITHM: Final = "ES256"
_ID_BYTES: Final = 16


class PatientProof(NamedTuple):
    """A compact JWS, and its `jti`."""

    token: str
    id: str


IssueProof = Callable[[str, str, Mapping[str, str] | None], PatientProof]
"""Signs a new proof for a patient id, an assistant id, and the required consents, if any."""


def make_proof_issuer(settings: Settings, clock: Clock) -> IssueProof | None:
    """Return the function that signs proofs with the first key of `PROOF_KEY`; None without one.

    PyJWT signs. The segments are written here, because the header is the same for all proofs.
    """
    if not settings.proof_key:
        return None
    key = load_proof_keys(settings.proof_key)[0]
    header = {"alg": _ALGORITHM, "typ": PROOF_TYPE, "kid": public_jwk(key)["kid"]}
    encode = msgspec.json.Encoder().encode
    header_segment = _base64url(encode(header))
    sign = jwt.get_algorithm_by_name(_ALGORITHM).sign

    def issue(
        patient_id: str, assistant_id: str, consent: Mapping[str, str] | None
    ) -> PatientProof:
        now = int(clock())
        proof_id = token_urlsafe(_ID_BYTES)
        claims = {
            "iss": settings.proof_issuer,
            "aud": settings.proof_audience,
            "sub": patient_id,
            "jti": proof_id,
            "assistantId": assistant_id,
            "iat": now,
            "exp": now + settings.vapi_token_ttl_seconds,
            **({} if consent is None else {"consent": consent}),
        }
        signing_input = header_segment + b"." + _base64url(encode(claims))
        token = signing_input + b"." + _base64url(sign(signing_input, key))
        return PatientProof(token.decode(), proof_id)

    return issue


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


PROOF_LEEWAY: Final = 30
"""Seconds that Vapi's clock may differ, like in the verifiers of `docs/tools/`."""

_MAX_LENGTH: Final = 4096
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class ProofClaims(msgspec.Struct, frozen=True, rename="camel"):
    """The claims of a proof whose signature, type, issuer and audience are ours."""

    iss: str
    aud: str
    sub: str
    jti: str
    assistant_id: str
    iat: float
    exp: float
    consent: dict[str, str] | None = None

    def covers(self, assistant_id: object, created_at: float) -> bool:
        """Return whether a call is on the proof's assistant, and was created while it was valid.

        `created_at` is in seconds since the epoch.
        """
        is_in_time = self.iat - PROOF_LEEWAY <= created_at <= self.exp + PROOF_LEEWAY
        return is_in_time and self.assistant_id == assistant_id


VerifyProof = Callable[[object], ProofClaims | None]
"""Returns the claims of a proof that this service signed, else None."""


def make_proof_verifier(settings: Settings) -> VerifyProof | None:
    """Return the function that verifies proofs with the keys of `PROOF_KEY`; None without one."""
    if not settings.proof_key:
        return None
    keys = {public_jwk(key)["kid"]: key.public_key() for key in load_proof_keys(settings.proof_key)}
    algorithm = jwt.get_algorithm_by_name(_ALGORITHM)
    decode = msgspec.json.Decoder(ProofClaims).decode

    def verify(proof: object) -> ProofClaims | None:
        if not isinstance(proof, str) or len(proof) > _MAX_LENGTH or not _COMPACT.fullmatch(proof):
            return None
        signing_input, _, signature = proof.rpartition(".")
        try:
            header, payload = map(_from_base64url, signing_input.split("."))
            key = keys.get(_key_id(header) or "")
            if key is None or not algorithm.verify(
                signing_input.encode(), key, _from_base64url(signature)
            ):
                return None
            claims = decode(payload)
        except (msgspec.MsgspecError, ValueError):
            return None
        is_ours = (claims.iss, claims.aud) == (settings.proof_issuer, settings.proof_audience)
        return claims if is_ours and claims.sub and claims.jti else None

    return verify


def _key_id(header: bytes) -> str | None:
    """Return the key id of a proof's header, or None when the header is not a proof's."""
    members = msgspec.json.decode(header, type=dict[str, Any])
    is_proof = (members.get("alg"), members.get("typ")) == (_ALGORITHM, PROOF_TYPE)
    key_id = members.get("kid")
    is_plain = "crit" not in members and "b64" not in members
    return key_id if is_proof and is_plain and isinstance(key_id, str) else None


def _from_base64url(segment: str) -> bytes:
    """Decode base64url; of several spellings of the same bytes one is accepted."""
    data = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if _base64url(data) != segment.encode():
        raise ValueError("not canonical base64url")
    return data


DEFAULT_OVERRIDES: Final = ("variableValues.patientProof",)
"""The overrides of a call that are allowed by default."""

DEFINITIONS: Final = (
    "assistant",
    "squad",
    "squadId",
    "workflow",
    "workflowId",
    "assistantVersion",
)
"""The fields of a call that define another assistant than the id alone."""


def changed_overrides(
    call: Mapping[str, object], allowed: Iterable[str] = DEFAULT_OVERRIDES
) -> list[str]:
    """Return the overrides of a call that are not allowed, and what else defines its assistant.

    An allowed name is a dotted path, and allows what lies below it. Of each override that is not
    allowed, the shortest path is returned. A key that contains a dot is never allowed.
    """
    names = [name for name in DEFINITIONS if call.get(name) is not None]
    overrides = call.get("assistantOverrides")
    if overrides is None:
        return names
    if not isinstance(overrides, Mapping):
        return [*names, "assistantOverrides"]
    return [*names, *_not_allowed((), overrides, {tuple(each.split(".")) for each in allowed})]


def _not_allowed(
    parent: tuple[str, ...], values: Mapping[str, object], allowed: Collection[tuple[str, ...]]
) -> Iterator[str]:
    for key, value in values.items():
        path = (*parent, key)
        if path in allowed:  # the parts of an allowed path contain no dot
            continue
        leads = any(len(each) > len(path) and each[: len(path)] == path for each in allowed)
        if leads and isinstance(value, Mapping) and value:
            yield from _not_allowed(path, value, allowed)
        else:
            yield ".".join(path)
