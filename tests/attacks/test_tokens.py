"""Attacks on tokens (RFC 8725) over a real socket: each gets the response of any invalid token, and
nothing is logged as an error.
"""

import hmac
import itertools
import json
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rig.issuer import ISSUER, Issuer, Key, issuing, key
from rig.rsa_keys import rsa_key
from rig.service import SECRET, Service, claims, sign
from rig.wire import WireAnswer, exchange, head
from tests.conftest import AuditLines, Serve

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

EC = key("ec", "ES256")
RSA = Key("RS256", rsa_key(), "rsa")
ED = key("ed", "EdDSA")
ATTACKER = key("ec", "ES256")
"""A key of the attacker, with the id of a published key."""


def segment(data: bytes | str | dict[str, Any]) -> str:
    data = json.dumps(data) if isinstance(data, dict) else data
    data = data.encode() if isinstance(data, str) else data
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(header: Any, payload: Any = None, signature: bytes = b"x") -> str:
    payload = claims(iss=ISSUER) if payload is None else payload
    return ".".join((segment(header), segment(payload), segment(signature)))


def hmac_signed(header: Any, secret: bytes, payload: Any = None) -> str:
    token = compact(header, payload).rpartition(".")[0]
    return f"{token}.{segment(hmac.digest(secret, token.encode(), 'sha256'))}"


def well_signed(header: Any, payload: Any = None) -> str:
    """Sign any header with the provider's key."""
    token = compact(header, payload).rpartition(".")[0]
    return resigned(f"{token}.", rs(*decode_dss_signature(in_der(token))))


def in_der(signed: str) -> bytes:
    made: bytes = EC.private.sign(signed.encode(), ECDSA(SHA256()))
    return made


def resigned(token: str, signature: bytes) -> str:
    return f"{token.rpartition('.')[0]}.{segment(signature)}"


def public(signer: Key, encoding: Encoding, shape: PublicFormat) -> bytes:
    made: bytes = signer.private.public_key().public_bytes(encoding, shape)
    return made


def rs(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass(frozen=True)
class Attack:
    """A token that must be rejected, and the name of the attack."""

    name: str
    token: str


def algorithms() -> Iterator[Attack]:
    """RFC 8725 sections 2.1 and 3.1: the token does not choose the algorithm."""
    for letters in itertools.product(*zip("none", "NONE", strict=True)):
        yield Attack("".join(letters), compact({"alg": "".join(letters), "kid": "ec"}))
    for odd in [
        "",
        " none",
        "none ",
        "es256",
        "ES256 ",
        "ES256K",
        "HS256",
        "RSA1_5",
        "dir",
        "\x00",
    ]:
        yield Attack(f"alg {odd!r}", compact({"alg": odd, "kid": "ec"}))
    types: list[Any] = [None, 0, True, [], ["ES256"], {}]
    for odd_type in types:
        yield Attack(f"alg {odd_type!r}", compact({"alg": odd_type, "kid": "ec"}))
    yield Attack("no alg", compact({"kid": "ec"}))
    yield Attack("an RSA key used for PSS", Key("PS256", RSA.private, "rsa").token())
    yield Attack("an RSA key used with SHA-512", Key("RS512", RSA.private, "rsa").token())
    yield Attack("key of another type", EC.token(kid="rsa"))


def public_secrets() -> Iterator[Attack]:
    """RFC 8725 section 2.1: a public key is not accepted as an HMAC secret."""
    for signer in (EC, RSA, ED):
        header = {"alg": "HS256", "kid": signer.kid}
        pem = public(signer, Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        der = public(signer, Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for name, secret in {
            "PEM": pem,
            "PEM without the last line break": pem.rstrip(),
            "DER": der,
            "JWK": json.dumps(signer.jwk()).encode(),
            "id": str(signer.kid).encode(),
        }.items():
            yield Attack(
                f"HS256 with the {name} of the {signer.algorithm} key", hmac_signed(header, secret)
            )
    yield Attack("HS256 with an empty secret", hmac_signed({"alg": "HS256", "kid": "ec"}, b""))


def two_families() -> Iterator[Attack]:
    """RFC 8725 section 3.1: a secret beside public keys verifies HMAC only, the keys all others."""
    secret = SECRET.encode()
    for signer in (EC, RSA, ED):
        name, header = signer.algorithm, {"alg": signer.algorithm, "kid": signer.kid}
        yield Attack(f"{name} signed with the secret", hmac_signed(header, secret))
        mixed = compact({**header, "alg": "HS256"}).rpartition(".")[0]
        signature = jwt.get_algorithm_by_name(name).sign(mixed.encode(), signer.private)
        yield Attack(f"HS256 signed with the {name} key", resigned(f"{mixed}.", signature))
        half = {"alg": "HS256", "kid": signer.kid, "jwk": signer.jwk()}
        yield Attack(f"HS256 of nobody, {name} key inside", hmac_signed(half, b"x" * 32))
    jwk = {"kty": "oct", "k": segment(secret)}
    for name, odd in {
        "base64 of it": b64encode(secret),
        "base64url of it": segment(secret).encode(),
        "a JWK of it": json.dumps(jwk).encode(),
        "a line break behind it": secret + b"\n",
        "half of it": secret[:32],
    }.items():
        yield Attack(f"the secret: {name}", hmac_signed({"alg": "HS256"}, odd))
    yield Attack("HS512, which is not allowed", sign(claims(iss=ISSUER), SECRET, "HS512"))


def embedded_keys() -> Iterator[Attack]:
    """RFC 8725 sections 3.5 and 3.10: keys inside or named by the token are not used."""
    certificate = b64encode(public(ATTACKER, Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    for kid in ("ec", "attacker"):
        headers: dict[str, dict[str, Any]] = {
            "jwk": {"jwk": ATTACKER.jwk(kid=kid)},
            "jku": {"jku": "https://attacker.example/jwks.json"},
            "x5u": {"x5u": "https://attacker.example/chain.pem"},
            "x5c": {"x5c": [certificate.decode()]},
            "x5t": {"x5t": segment(b"\x00" * 20), "x5t#S256": segment(b"\x00" * 32)},
            "nothing": {},
        }
        for name, extra in headers.items():
            yield Attack(f"{name} with the kid {kid}", ATTACKER.token(**{**extra, "kid": kid}))


def extensions() -> Iterator[Attack]:
    """RFC 7515 section 4.1.11, RFC 7797: extensions that are not supported are rejected."""
    lists: list[Any] = [["exp"], ["b64"], [], ["a\nb"], "exp", None, {}, [None]]
    for crit in lists:
        yield Attack(f"crit {crit!r}", EC.token(crit=crit))
    for b64 in (False, True, 0, None):
        yield Attack(f"b64 {b64!r}", well_signed({"alg": "ES256", "kid": "ec", "b64": b64}))
    payload = '{"id":"pt_1"}'
    plain = f"{segment({'alg': 'ES256', 'kid': 'ec', 'b64': False, 'crit': ['b64']})}.{payload}"
    yield Attack("payload that is not encoded", f"{plain}.eA")


def key_ids() -> Iterator[Attack]:
    """RFC 8725 section 3.10: a key id is only compared."""
    odd = [
        "../../../../../../dev/null",
        "/dev/null",
        "file:///etc/passwd",
        "http://127.0.0.1:1/jwks.json",
        "' UNION SELECT 'secret' -- ",
        "$(id)",
        "{{7*7}}",
        "ec\x00",
        "ec\r\nX-Injected: 1",
        "EC",
        "",
        "\ud800",
        "k" * 4000,
    ]
    for kid in odd:
        yield Attack(f"kid {kid[:30]!r}", EC.token(kid=kid))
        header = {"alg": "HS256", "kid": kid}
        yield Attack(f"kid {kid[:30]!r} with an empty HMAC secret", hmac_signed(header, b""))
    yield Attack("a kid of 8 kB", EC.token(kid="k" * 8000))
    types: list[Any] = [0, True, ["ec"], {"kid": "ec"}]
    for kid_type in types:
        yield Attack(f"kid {kid_type!r}", well_signed({"alg": "ES256", "kid": kid_type}))


def shapes() -> Iterator[Attack]:
    """RFC 8725 sections 2.4, 2.5, 3.11: only a signed token in compact form is accepted."""
    good = EC.token()
    first, second, third = good.split(".")
    flat = json.dumps({"payload": second, "protected": first, "signature": third})
    whole = {
        "nested token": compact({"alg": "ES256", "kid": "ec", "cty": "JWT"}, good),
        "nested token, correctly signed": sign(
            good.encode(), EC.private, "ES256", kid="ec", cty="JWT"
        ),
        "encrypted token": ".".join([segment({"alg": "dir", "enc": "A128GCM"}), "", "x", "x", "x"]),
        "encrypted token, five segments filled": ".".join(
            [segment({"alg": "RSA-OAEP", "enc": "A128GCM"}), *["eA"] * 4]
        ),
        "four segments": f"{good}.{third}",
        "five segments": f"{good}.{third}.{third}",
        "two segments": f"{first}.{second}",
        "one segment": first,
        "no signature": f"{first}.{second}.",
        "no payload": f"{first}..{third}",
        "no header": f".{second}.{third}",
        "flattened JSON": flat,
        "flattened JSON, encoded": segment(flat),
        "padding": ".".join(part + "=" * (-len(part) % 4) for part in (first, second, third)),
        "padding of the signature": f"{good}==",
        "padding, escaped": f"{good}%3D%3D",
        "base64 in place of base64url": compact({"alg": "ES256", "kid": "ec"}, b"\xfb\xff").replace(
            "_", "/"
        ),
        "space inside": f"{first}.{second} .{third}",
        "word after the token": f"{good} x",
        "second token after it": f"{good}, {good}",
        "quotes": f'"{good}"',
        "header is a list": f"{segment(b'[]')}.{second}.{third}",
        "header is not JSON": f"{segment(b'ES256')}.{second}.{third}",
        "header in UTF-16": well_signed('{"alg":"ES256","kid":"ec"}'.encode("utf-16")),
        "deeply nested header": f"{segment(b'[' * 4000)}.{second}.{third}",
        "alg given twice": well_signed('{"alg":"ES256","alg":"none","kid":"ec"}'),
        "payload of another token": f"{first}.{segment(claims(iss=ISSUER, id='pt_2'))}.{third}",
        "signature of another token": resigned(good, b"x" * 64),
        "18,000 bytes": EC.token(claims(iss=ISSUER, more="x" * 13_000)),
    }
    for name, token in whole.items():
        yield Attack(name, token)


def signatures() -> Iterator[Attack]:
    """RFC 7518 section 3.4 and others: edge cases of the signature algorithms."""
    good = EC.token()
    n = P256_ORDER
    edges = {
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (n, n),
        (n, 1),
        (1, n),
        (n - 1, n - 1),
        (2**256 - 1,) * 2,
    }
    for r, s in sorted(edges):
        yield Attack(f"r = {r:x}, s = {s:x}", resigned(good, rs(r, s)))
    yield Attack("ECDSA in DER", resigned(good, in_der(good.rpartition(".")[0])))
    real = urlsafe(good.rpartition(".")[2])
    yield Attack("ECDSA, one byte short", resigned(good, real[:-1]))
    yield Attack("ECDSA, one byte more", resigned(good, real + b"\x00"))
    yield Attack("ECDSA, zero byte in front", resigned(good, b"\x00" + real))
    yield Attack("ECDSA, halves exchanged", resigned(good, real[32:] + real[:32]))
    modulus = RSA.private.public_key().public_numbers().n
    for name, value in {"0": 0, "1": 1, "n - 1": modulus - 1, "n": modulus}.items():
        yield Attack(f"RSA signature {name}", resigned(RSA.token(), value.to_bytes(256, "big")))
    rsa_real = urlsafe(RSA.token().rpartition(".")[2])
    yield Attack("RSA, zero byte in front", resigned(RSA.token(), b"\x00" + rsa_real))
    for octets in (b"\x00" * 64, b"\x01" + b"\x00" * 63, b"\xff" * 64):
        yield Attack(f"EdDSA {octets[:1]!r}", resigned(ED.token(), octets))


def urlsafe(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


GROUPS = {
    each.__name__: list(each())
    for each in (
        algorithms,
        public_secrets,
        two_families,
        embedded_keys,
        extensions,
        key_ids,
        shapes,
        signatures,
    )
}
INVALID = (401, "AUTH_TOKEN_INVALID", 'Bearer realm="vapi-sessions", error="invalid_token"')


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing(EC, RSA, ED) as issuer:
        yield issuer


@pytest.fixture
async def guarded(issuer: Issuer, serve: Serve) -> Service:
    return await serve(**issuer.variables, RATE_LIMIT="off")


async def send(service: Service, token: str) -> WireAnswer:
    return await exchange(service, head(b"Authorization: Bearer " + token.encode()))


async def not_rejected(service: Service, attacks: Iterable[Attack]) -> dict[str, object]:
    """Run the attacks; return the responses other than that of an invalid token."""
    results: dict[str, object] = {}
    for attack in attacks:
        answer = await send(service, attack.token)
        outcome = (answer.status, answer.code, ", ".join(answer.headers.getall("WWW-Authenticate")))
        if outcome != INVALID or "X-Injected" in answer.headers:
            results[attack.name] = outcome
    return results


def test_attacks_have_distinct_names() -> None:
    names = [attack.name for attacks in GROUPS.values() for attack in attacks]
    assert len(set(names)) == len(names) > 150


@pytest.mark.parametrize("signer", [EC, RSA, ED], ids=["ES256", "RS256", "EdDSA"])
async def test_valid_token_is_granted(guarded: Service, signer: Key) -> None:
    assert (await send(guarded, signer.token())).status == 200


async def test_token_with_a_hand_made_header_is_granted(guarded: Service) -> None:
    assert (await send(guarded, well_signed({"alg": "ES256", "kid": "ec"}))).status == 200


async def test_second_value_of_an_ecdsa_signature_is_valid(guarded: Service) -> None:
    """`docs/security.md`: a token is not a unique string."""
    token = EC.token()
    real = urlsafe(token.rpartition(".")[2])
    r, s = int.from_bytes(real[:32], "big"), int.from_bytes(real[32:], "big")
    assert (await send(guarded, resigned(token, rs(r, P256_ORDER - s)))).status == 200


@pytest.mark.parametrize("group", GROUPS)
async def test_attacks_are_rejected_with_a_jwks(
    guarded: Service, issuer: Issuer, caplog: pytest.LogCaptureFixture, group: str
) -> None:
    assert await not_rejected(guarded, GROUPS[group]) == {}
    assert [each.message for each in caplog.records if each.levelname != "INFO"] == []
    assert issuer.fetches <= 2


async def test_attacks_on_algorithms_are_rejected_with_one_public_key(serve: Serve) -> None:
    pem = public(RSA, Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    service = await serve(JWT_SECRET="", JWT_PUBLIC_KEY=pem, JWT_ISSUER=ISSUER)
    assert (await send(service, RSA.token())).status == 200
    assert await not_rejected(service, GROUPS["algorithms"] + GROUPS["public_secrets"]) == {}


@pytest.mark.parametrize("source", ["JWT_JWKS_URL", "JWT_PUBLIC_KEY"])
async def test_attacks_are_rejected_with_a_secret_beside_public_keys(
    issuer: Issuer, serve: Serve, source: str
) -> None:
    shape = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    pem = b"".join(public(each, *shape) for each in (EC, RSA, ED)).decode()
    keys = {"JWT_JWKS_URL": issuer.url, "JWT_PUBLIC_KEY": pem}
    variables = {source: keys[source], "JWT_ALGORITHMS": "HS256,ES256,RS256,EdDSA"}
    service = await serve(**variables, JWT_ISSUER=ISSUER, RATE_LIMIT="off")
    for token in (EC.token(), RSA.token(), ED.token(), *hmac_tokens()):
        assert (await send(service, token)).status == 200
    groups = ("public_secrets", "two_families", "embedded_keys", "signatures")
    for group in groups if source == "JWT_JWKS_URL" else groups[:2]:
        assert await not_rejected(service, GROUPS[group]) == {}


def hmac_tokens() -> list[str]:
    """Return tokens of the secret; it has no key id, so any is ignored."""
    headers: list[dict[str, str]] = [{}, {"kid": "ec"}, {"kid": "unknown"}]
    return [sign(claims(iss=ISSUER), **each) for each in headers]


async def test_attacks_on_algorithms_are_rejected_with_a_secret(service: Service) -> None:
    assert await not_rejected(service, GROUPS["algorithms"]) == {}


async def test_last_of_two_equal_claims_is_used_everywhere(
    guarded: Service, audit_lines: AuditLines
) -> None:
    payload = json.dumps(claims(iss=ISSUER)).encode()[:-1] + b',"id":"pt_2"}'
    answer = await send(guarded, sign(payload, EC.private, "ES256", kid="ec"))
    assert answer.json["data"]["patientContext"]["id"] == "pt_2"
    (line,) = audit_lines()
    assert line["patient"] == "pt_2"
