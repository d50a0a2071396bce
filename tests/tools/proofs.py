"""Patient proofs of every kind, and the table of those that both verifiers accept or refuse."""

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rig.rsa_keys import rsa_key

ISSUER: Final = "https://sessions.clinic.example"
AUDIENCE: Final = "https://tools.clinic.example"
ASSISTANT: Final = "5b5f1e8e-3a86-4d0e-9f0b-2f1c8d7a6b5c"
PATIENT: Final = "pt_1001"
IAT: Final = 1_800_000_000
EXP: Final = IAT + 120
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

OURS: Final = ec.generate_private_key(ec.SECP256R1())
NEXT: Final = ec.generate_private_key(ec.SECP256R1())
FOREIGN: Final = ec.generate_private_key(ec.SECP256R1())
P384: Final = ec.generate_private_key(ec.SECP384R1())
K256: Final = ec.generate_private_key(ec.SECP256K1())
RSA: Final = rsa_key()


def segment(data: bytes | str | dict[str, Any]) -> str:
    """Encode a segment of a JWS; a dictionary is written as JSON."""
    data = json.dumps(data) if isinstance(data, dict) else data
    data = data.encode() if isinstance(data, str) else data
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    """Encode a coordinate of P-256."""
    return segment(value.to_bytes(32, "big"))


def jwk(key: ec.EllipticCurvePrivateKey = OURS, kid: Any = "ours", **more: Any) -> dict[str, Any]:
    """Write a public key as the service publishes it; a value of `...` leaves a member out."""
    numbers = key.public_key().public_numbers()
    x, y = number(numbers.x), number(numbers.y)
    members = {
        "kty": "EC",
        "crv": "P-256",
        "x": x,
        "y": y,
        "use": "sig",
        "alg": "ES256",
        "kid": kid,
    }
    return {name: value for name, value in {**members, **more}.items() if value is not ...}


def header(**changes: Any) -> dict[str, Any]:
    """Write the header of a good proof, changed; a value of `...` leaves a parameter out."""
    parameters = {"alg": "ES256", "typ": "patient-proof+jwt", "kid": "ours", **changes}
    return {name: value for name, value in parameters.items() if value is not ...}


def claims(**changes: Any) -> dict[str, Any]:
    """Write the claims of a good proof, changed; a value of `...` leaves a claim out."""
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": PATIENT,
        "jti": "kJ0pVhC1X5o4bQ2Zt8sYwA",
        "assistantId": ASSISTANT,
        "iat": IAT,
        "exp": EXP,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def rs(key: ec.EllipticCurvePrivateKey, signed: bytes) -> tuple[int, int]:
    """Sign, and give both numbers of the signature."""
    return decode_dss_signature(key.sign(signed, ec.ECDSA(SHA256())))


def in_jose(r: int, s: int, size: int = 32) -> bytes:
    """Write a signature as JOSE does (RFC 7518 section 3.4)."""
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def signed_part(head: Any = None, payload: Any = None) -> str:
    """Write the signing input of a header and a payload, which are dictionaries or bytes."""
    head = header() if head is None else head
    payload = claims() if payload is None else payload
    return f"{segment(head)}.{segment(payload)}"


def proof(head: Any = None, payload: Any = None, key: ec.EllipticCurvePrivateKey = OURS) -> str:
    """Sign a proof with P-256, whatever the header says."""
    signed = signed_part(head, payload)
    return f"{signed}.{segment(in_jose(*rs(key, signed.encode())))}"


def with_claims(**changes: Any) -> str:
    """Sign changed claims."""
    return proof(payload=claims(**changes))


def with_json(**texts: str) -> str:
    """Sign claims of which some are written as the JSON text given."""
    written = ",".join(
        f'"{name}":{texts.get(name, json.dumps(value))}' for name, value in claims().items()
    )
    return proof(payload="{" + written + "}")


def with_header(**changes: Any) -> str:
    """Sign with a changed header."""
    return proof(head=header(**changes))


def instant(seconds: float) -> str:
    """Write a time as Vapi does."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def call(**changes: Any) -> dict[str, Any]:
    """Write the call of a webhook, changed; a value of `...` leaves a member out."""
    good = {
        "id": "7e7b3c1d-0c55-4d5f-8f43-0d4f7f4f5a10",
        "orgId": "f2f1b7a4-3f3e-4dcb-a0a5-59a6c1a0b7c1",
        "type": "webCall",
        "assistantId": ASSISTANT,
        "createdAt": instant(IAT + 2),
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


GOOD: Final = proof()
PUBLISHED: Final = {"keys": [jwk()]}


def anything(*values: Any) -> tuple[Any, ...]:
    """Return values of any types."""
    return values


@dataclass(frozen=True, slots=True)
class Row:
    """The input of a verifier, and the reason of its refusal; None when it accepts."""

    name: str
    reason: str | None
    proof: Any = GOOD
    call: Any = field(default_factory=call)
    jwks: Any = field(default_factory=lambda: PUBLISHED)
    issuer: Any = ISSUER
    audience: Any = AUDIENCE
    allowedOverrides: list[str] | None = None  # noqa: N815  as in JavaScript


def genuine() -> Iterator[Row]:
    yield Row("as issued", None)
    yield Row("second key during rotation", None, jwks={"keys": [jwk(NEXT, "next"), jwk()]})
    yield Row("unknown header parameter", None, with_header(cty="JWT"))
    yield Row("unknown claim", None, with_claims(name="Amara"))
    yield Row("fractions in dates", None, with_claims(iat=IAT + 0.5, exp=EXP + 0.5))
    yield Row("key without use and alg", None, jwks={"keys": [jwk(use=..., alg=...)]})
    yield Row("other keys beside it", None, jwks={"keys": [1, None, {}, [], RSA_JWK, jwk()]})
    yield Row("same kid, foreign key first", None, jwks={"keys": [jwk(FOREIGN), jwk()]})
    yield Row("4096 characters", None, of_length(4096))
    yield Row("duplicate claim, last one right", None, doubled("sub", "pt_2", PATIENT))
    r, s = rs(OURS, signed_part().encode())
    other = f"{signed_part()}.{segment(in_jose(r, P256_ORDER - s))}"
    yield Row("complement of the signature, the same proof", None, other)


def without_proof() -> Iterator[Row]:
    yield Row("no proof", "missing", None)
    yield Row("empty proof", "missing", "")
    yield Row("unset variable", "missing", "{{patientProof}}")
    yield Row("unset variable with spaces", "missing", "{{ patientProof }}")


def malformed() -> Iterator[Row]:
    head, payload, signature = GOOD.split(".")
    for value in anything(0, 1, True, False, [], {}, [GOOD], {"proof": GOOD}):
        yield Row(f"proof is {json.dumps(value)[:20]}", "malformed", value)
    texts = {
        "text": "proof",
        "two segments": f"{head}.{payload}",
        "four segments": f"{GOOD}.{signature}",
        "five segments, as JWE has": f"{GOOD}.{signature}.{signature}",
        "empty header": f".{payload}.{signature}",
        "empty payload": f"{head}..{signature}",
        "empty signature": f"{head}.{payload}.",
        "line break at the end": f"{GOOD}\n",
        "space in front": f" {GOOD}",
        "bearer scheme": f"Bearer {GOOD}",
        "padding": f"{head}.{payload}.{signature}==",
        "base64 in place of base64url": f"{head}.{payload}.{signature[:-1]}+",
        "letters of other scripts": f"{head}.{payload}.{signature[:-1]}é",
        "digits of other scripts": f"{head}.{payload}.{signature[:-1]}٣",
        "another spelling of the signature": GOOD[:-1] + after(GOOD[-1]),
        "impossible length": f"{head}.{payload}.{signature}{'A' * 3}",
        "header is not JSON": proof(head="alg"),
        "header is a list": proof(head="[]"),
        "header is null": proof(head="null"),
        "header is not UTF-8": proof(head=b'{"alg":"\xff"}'),
        "header with byte order mark": proof(head=b"\xef\xbb\xbf" + json.dumps(header()).encode()),
        "header in UTF-16": proof(head=json.dumps(header()).encode("utf-16-le")),
        "header with NaN": proof(head=json.dumps(header(iat=float("nan")))),
        "payload is not JSON": proof(payload="claims"),
        "payload is a list": proof(payload="[]"),
        "payload is a string": proof(payload=json.dumps(json.dumps(claims()))),
        "payload is not UTF-8": proof(payload=b'{"sub":"\xff"}'),
        "payload with byte order mark": proof(payload=b"\xef\xbb\xbf{}"),
        "payload with a comment": proof(payload="{} //"),
        "payload with NaN": with_json(exp="NaN"),
        "payload with Infinity": with_json(exp="Infinity"),
        "payload with -Infinity": with_json(iat="-Infinity"),
        "longer than 4096 characters": of_length(4097),
    }
    for name, text in texts.items():
        yield Row(name, "malformed", text)


def forged() -> Iterator[Row]:
    signed = signed_part()
    head, _, signature = GOOD.split(".")
    swapped = segment(claims(sub="pt_2"))
    r, s = rs(OURS, signed.encode())
    published = OURS.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    hs256 = signed_part(header(alg="HS256"))
    rs256 = signed_part(header(alg="RS256"))
    der = OURS.sign(signed.encode(), ec.ECDSA(SHA256()))
    signatures = {
        "zero": bytes(64),
        "r is zero": in_jose(0, s),
        "s is zero": in_jose(r, 0),
        "r and s are the order": in_jose(P256_ORDER, P256_ORDER),
        "r is one more order": (r + P256_ORDER).to_bytes(33, "big") + s.to_bytes(32, "big"),
        "in DER": der,
        "too short": in_jose(r, s)[:-1],
        "too long": in_jose(r, s) + b"\0",
        "of 96 bytes": in_jose(r, s, 48),
    }
    for name, made in signatures.items():
        yield Row(f"signature: {name}", "signature", f"{signed}.{segment(made)}")
    yield Row("another patient in the payload", "signature", f"{head}.{swapped}.{signature}")
    yield Row("signed with a foreign key", "signature", proof(key=FOREIGN))
    with_jwk = proof(header(jwk=jwk(FOREIGN)), key=FOREIGN)
    yield Row("foreign key embedded (jwk)", "signature", with_jwk)
    with_jku = proof(header(jku="https://attacker.example/jwks.json"), key=FOREIGN)
    yield Row("address of foreign keys (jku)", "signature", with_jku)
    for alg in ("none", "None", "NONE", "", "es256", "ES256 ", "ES384", "ES256K", "HS256", "EdDSA"):
        unsigned = f"{signed_part(header(alg=alg))}.{signature}"
        yield Row(f"alg {alg!r}", "algorithm", unsigned)
    yield Row("alg missing", "algorithm", with_header(alg=...))
    yield Row("alg null", "algorithm", with_header(alg=None))
    yield Row("alg a list", "algorithm", with_header(alg=["ES256"]))
    as_secret = segment(hmac.digest(published, hs256.encode(), "sha256"))
    yield Row("public key as HMAC secret", "algorithm", f"{hs256}.{as_secret}")
    by_rsa = segment(RSA.sign(rs256.encode(), PKCS1v15(), SHA256()))
    yield Row("signed with RSA", "algorithm", f"{rs256}.{by_rsa}")
    first, last = '{"alg":"none",', json.dumps(header())[1:]
    yield Row("alg twice, ES256 last", None, proof(head=first + last))
    doubled_alg = json.dumps(header())[:-1] + ',"alg":"none"}'
    yield Row("alg twice, none last", "algorithm", proof(head=doubled_alg))


def wrong_header() -> Iterator[Row]:
    for typ in anything(
        "JWT",
        "at+jwt",
        "patient-proof",
        "patient-proof+jws",
        "Patient-Proof+JWT",
        "application/patient-proof+jwt",
        " patient-proof+jwt",
        "",
        None,
        1,
        ["patient-proof+jwt"],
    ):
        yield Row(f"typ {json.dumps(typ)}", "type", with_header(typ=typ))
    yield Row("typ missing", "type", with_header(typ=...))
    for crit in anything(["b64"], ["exp"], [], None, "exp", {}):
        yield Row(f"crit {json.dumps(crit)}", "extension", with_header(crit=crit))
    for b64 in anything(True, False, None):
        yield Row(f"b64 {json.dumps(b64)}", "extension", with_header(b64=b64))
    yield Row("b64 and crit", "extension", with_header(b64=False, crit=["b64"]))
    for kid in anything("other", "OURS", "ours ", "", None, 1, True, ["ours"], {"kid": "ours"}):
        yield Row(f"kid {json.dumps(kid)}", "key", with_header(kid=kid))
    yield Row("kid missing", "key", with_header(kid=...))


def wrong_keys() -> Iterator[Row]:
    for value in anything(
        None, 1, "", "keys", [], [jwk()], {}, {"keys": None}, {"keys": {"ours": jwk()}}
    ):
        yield Row(f"key set {json.dumps(value)[:24]}", "jwks", jwks=value)
    yield Row("key set as text", "jwks", jwks=json.dumps(PUBLISHED))
    number_of = OURS.private_numbers().private_value
    numbers = P384.public_key().public_numbers()
    x384, y384 = (segment(value.to_bytes(48, "big")) for value in (numbers.x, numbers.y))
    keys: dict[str, Any] = {
        "no keys": [],
        "no objects": [None, 1, "ours", [], jwk()["x"]],
        "kid missing": [jwk(kid=...)],
        "kid a number": [jwk(kid=1)],
        "for encryption": [jwk(use="enc")],
        "use null": [jwk(use=None)],
        "for another algorithm": [jwk(alg="ES384")],
        "alg null": [jwk(alg=None)],
        "published with its private member": [jwk(d=number(number_of))],
        "d null": [jwk(d=None)],
        "kty missing": [jwk(kty=...)],
        "kty in lower case": [jwk(kty="ec")],
        "kty oct": [{"kty": "oct", "kid": "ours", "k": segment(b"x" * 32), "alg": "ES256"}],
        "kty RSA": [{**RSA_JWK, "kid": "ours"}],
        "kty OKP": [{"kty": "OKP", "crv": "Ed25519", "kid": "ours", "x": number(1)}],
        "crv missing": [jwk(crv=...)],
        "crv P-384": [jwk(crv="P-384", x=x384, y=y384)],
        "crv P-256 with a key of P-384": [jwk(x=x384, y=y384)],
        "crv secp256k1": [jwk(K256, crv="secp256k1")],
        "crv P-256 with a key of secp256k1": [jwk(K256)],
        "x missing": [jwk(x=...)],
        "y null": [jwk(y=None)],
        "x a number": [jwk(x=1)],
        "x not base64url": [jwk(x="!" * 43)],
        "x too short": [jwk(x=segment(b"x"))],
        "point at infinity": [jwk(x=number(0), y=number(0))],
        "x and y exchanged": [jwk(x=jwk()["y"], y=jwk()["x"])],
    }
    for name, value in keys.items():
        yield Row(f"key: {name}", "key", jwks={"keys": value})
    yield Row("key: foreign key under our kid", "signature", jwks={"keys": [jwk(FOREIGN)]})
    yield Row("key: ours under another kid", "key", jwks={"keys": [jwk(kid="next")]})


def foreign() -> Iterator[Row]:
    for iss in anything(
        "https://other.example", ISSUER + "/", ISSUER.upper(), "", None, 1, [ISSUER], {}
    ):
        yield Row(f"iss {json.dumps(iss)}", "issuer", with_claims(iss=iss))
    yield Row("iss missing", "issuer", with_claims(iss=...))
    for aud in anything("https://other.example", AUDIENCE + "/", "", None, 1, [AUDIENCE], [], {}):
        yield Row(f"aud {json.dumps(aud)}", "audience", with_claims(aud=aud))
    yield Row("aud missing", "audience", with_claims(aud=...))
    yield Row("no issuer expected", "issuer", with_claims(iss=...), issuer=None)
    yield Row("no audience expected", "audience", with_claims(aud=...), audience=None)
    yield Row("empty issuer expected", "issuer", with_claims(iss=""), issuer="")
    yield Row("empty audience expected", "audience", with_claims(aud=""), audience="")
    yield Row("issuer and audience exchanged", "issuer", with_claims(iss=AUDIENCE, aud=ISSUER))


def incomplete() -> Iterator[Row]:
    for name in ("sub", "jti"):
        yield Row(f"{name} missing", "claims", with_claims(**{name: ...}))
        for value in anything("", None, 1, True, [PATIENT], {"id": PATIENT}):
            yield Row(f"{name} {json.dumps(value)}", "claims", with_claims(**{name: value}))
    yield Row("duplicate claim, last one wrong", "claims", doubled("sub", PATIENT, 1))
    for name in ("iat", "exp"):
        yield Row(f"{name} missing", "claims", with_claims(**{name: ...}))
        for value in anything(str(IAT), "", None, True, [IAT], {}):
            yield Row(f"{name} {json.dumps(value)}", "claims", with_claims(**{name: value}))
        for text in ("1e400", "-1e400", "9007199254740992", "1" + "0" * 400):
            yield Row(f"{name} {text[:24]}", "claims", with_json(**{name: text}))


def swapped() -> Iterator[Row]:
    other = "c0a80101-0000-4000-8000-000000000000"
    for value in anything(
        None, "", 1, True, [ASSISTANT], {}, ASSISTANT.upper(), f"{ASSISTANT} ", other
    ):
        given, claimed = call(assistantId=value), with_claims(assistantId=value)
        yield Row(f"call of assistant {json.dumps(value)}", "assistant", call=given)
        yield Row(f"proof for assistant {json.dumps(value)}", "assistant", claimed)
    for value in anything(None, "", 1, True, [ASSISTANT]):
        both = with_claims(assistantId=value)
        name = f"assistant {json.dumps(value)} in both"
        yield Row(name, "assistant", both, call=call(assistantId=value))
    yield Row("call of a squad", "assistant", call=call(assistantId=..., squadId=ASSISTANT))
    missing = with_claims(assistantId=...)
    yield Row("assistant missing in both", "assistant", missing, call=call(assistantId=...))
    for value in anything(None, 1, True, "call", [], [call()], GOOD):
        yield Row(f"call is {json.dumps(value)[:24]}", "call", call=value)


def untimely() -> Iterator[Row]:
    edges = {
        "30 s before iat": (IAT - 30, None),
        "30.001 s before iat": (IAT - 30.001, "window"),
        "at iat": (IAT, None),
        "at exp": (EXP, None),
        "30 s after exp": (EXP + 30, None),
        "30.001 s after exp": (EXP + 30.001, "window"),
        "an hour later": (EXP + 3600, "window"),
        "a day earlier": (IAT - 86_400, "window"),
        "at the epoch": (0, "window"),
    }
    for name, (seconds, reason) in edges.items():
        yield Row(f"created {name}", reason, call=call(createdAt=instant(seconds)))
    inverted = with_claims(iat=EXP + 100, exp=IAT)
    yield Row("exp before iat", "window", inverted)
    day = instant(IAT)[:10]
    texts: dict[str, tuple[Any, str | None]] = {
        "without fraction": (f"{day}T08:00:02Z", None),
        "with microseconds": (f"{day}T08:00:02.123456Z", None),
        "with nanoseconds": (f"{day}T08:00:02.123456789Z", None),
        "in another zone": (f"{day}T10:00:02.000+02:00", None),
        "in a zone to the west": (f"{day}T03:30:02.000-04:30", None),
        "in UTC as -00:00": (f"{day}T08:00:02-00:00", None),
        "the same clock in another zone": (f"{day}T08:00:02+01:00", "window"),
        "without zone": (f"{day}T08:00:02", "created_at"),
        "without zone, with fraction": (f"{day}T08:00:02.000", "created_at"),
        "zone without colon": (f"{day}T08:00:02+0000", "created_at"),
        "zone in lower case": (f"{day}T08:00:02z", "created_at"),
        "zone out of range": (f"{day}T08:00:02+24:00", "created_at"),
        "T in lower case": (f"{day}t08:00:02Z", "created_at"),
        "space for T": (f"{day} 08:00:02Z", "created_at"),
        "basic format": (day.replace("-", "") + "T080002Z", "created_at"),
        "week date": ("2027-W02-5T08:00:02Z", "created_at"),
        "day only": (day, "created_at"),
        "without seconds": (f"{day}T08:00Z", "created_at"),
        "comma in fraction": (f"{day}T08:00:02,000Z", "created_at"),
        "empty fraction": (f"{day}T08:00:02.Z", "created_at"),
        "hour 24": (f"{day}T24:00:00Z", "created_at"),
        "second 60": (f"{day}T08:00:60Z", "created_at"),
        "30 February": ("2027-02-30T08:00:02Z", "created_at"),
        "29 February of a common year": ("2027-02-29T08:00:02Z", "created_at"),
        "month 13": ("2027-13-01T08:00:02Z", "created_at"),
        "digits of other scripts": ("٢٠٢٧-01-15T08:00:02Z", "created_at"),
        "line break at the end": (f"{day}T08:00:02Z\n", "created_at"),
        "HTTP date": ("Fri, 15 Jan 2027 08:00:02 GMT", "created_at"),
        "text": ("now", "created_at"),
        "empty": ("", "created_at"),
        "null": (None, "created_at"),
        "seconds": (IAT, "created_at"),
        "milliseconds": (IAT * 1000, "created_at"),
        "a boolean": (True, "created_at"),
        "a list": ([instant(IAT)], "created_at"),
        "missing": (..., "created_at"),
    }
    for name, (value, reason) in texts.items():
        yield Row(f"createdAt {name}", reason, call=call(createdAt=value))


OVERRIDES: Final[list[tuple[dict[str, Any], list[str], list[str]]]] = [
    ({}, [], []),
    ({"assistantOverrides": None}, [], []),
    ({"assistantOverrides": {}}, [], []),
    ({"assistantOverrides": []}, [], ["assistantOverrides"]),
    ({"assistantOverrides": "x"}, [], ["assistantOverrides"]),
    ({"assistantOverrides": {"variableValues": {"patientProof": GOOD}}}, [], []),
    ({"assistantOverrides": {"variableValues": {"patientProof": {"a": 1}}}}, [], []),
    ({"assistantOverrides": {"variableValues": {}}}, [], ["variableValues"]),
    ({"assistantOverrides": {"variableValues": None}}, [], ["variableValues"]),
    ({"assistantOverrides": {"variableValues": [GOOD]}}, [], ["variableValues"]),
    (
        {"assistantOverrides": {"variableValues": {"patientProof": GOOD, "b": {"c": 1}}}},
        [],
        ["variableValues.b"],
    ),
    (
        {"assistantOverrides": {"variableValues.patientProof": 1}},
        [],
        ["variableValues.patientProof"],
    ),
    ({"assistantOverrides": {"model": None}}, [], ["model"]),
    ({"assistantOverrides": {"model": {}, "server": {"url": "x"}}}, [], ["model", "server"]),
    ({"assistantOverrides": {"model": {"a": {"b": 1}, "c": 2}}}, ["model.a"], ["model.c"]),
    (
        {"assistantOverrides": {"model": {"a": {"b": 1}, "c": 2}}},
        ["model.a.x"],
        ["model.a.b", "model.c"],
    ),
    ({"assistantOverrides": {"model": {"a": 1}}}, ["model"], []),
    ({"assistantOverrides": {"models": 1}}, ["model"], ["models"]),
    ({"assistantOverrides": {"model.a": 1}}, ["model", "model.a"], ["model.a"]),
    ({"assistantOverrides": {"": 1}}, [], [""]),
    ({"assistantOverrides": {"constructor": 1}}, [], ["constructor"]),
    ({"assistantOverrides": {"__proto__": 1}}, [], ["__proto__"]),
    *(
        ({name: value}, [], [name])
        for name in ("assistant", "squad", "squadId", "workflow", "workflowId", "assistantVersion")
        for value in anything({}, "", 0, False)
    ),
    ({"squad": None, "assistantVersion": None}, [], []),
]
"""Members of a call, what is allowed besides the proof, and what is changed."""


def altered() -> Iterator[Row]:
    for number, (members, more, changed) in enumerate(OVERRIDES):
        allowed = ["variableValues.patientProof", *more] if more else None
        reason = "overrides" if changed else None
        given = call(**members)
        yield Row(f"call altered {number}", reason, call=given, allowedOverrides=allowed)
    none = call(assistantOverrides={"variableValues": {"patientProof": GOOD}})
    yield Row("nothing allowed", "overrides", call=none, allowedOverrides=[])
    yield Row("with consent", None, with_claims(consent={"voice": "2"}))


def of_length(length: int) -> str:
    """Sign a proof that is padded to a length in characters."""
    size = (length - len(GOOD)) * 3 // 4 - 40
    while True:
        for cty in ("a", "ab", "abc"):  # base64 leaves out one length of four
            text = proof(header(cty=cty), claims(padding="x" * size))
            if len(text) == length:
                return text
        size += 1


def doubled(name: str, first: Any, last: Any) -> str:
    """Sign claims that name one claim twice."""
    texts = [f'"{name}":{json.dumps(first)}', json.dumps(claims(**{name: last}))[1:]]
    return proof(payload="{" + ",".join(texts))


def after(letter: str) -> str:
    """Return the letter of base64url that differs in the last bit."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(letter) ^ 1]


_RSA_NUMBERS = RSA.public_key().public_numbers()
RSA_JWK: Final = {
    "kty": "RSA",
    "kid": "rsa",
    "n": segment(_RSA_NUMBERS.n.to_bytes(256, "big")),
    "e": "AQAB",
}

TABLE: Final = (
    genuine,
    without_proof,
    malformed,
    forged,
    wrong_header,
    wrong_keys,
    foreign,
    incomplete,
    swapped,
    untimely,
    altered,
)
"""The groups of the table."""
