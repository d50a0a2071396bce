"""Attacks on tokens (RFC 8725) and on their way here (RFC 6750 sections 2 and 3), each over a real
socket: whoever tries one gets the answer that everybody gets, and nothing is logged as a fault.
"""

import hmac
import itertools
import json
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.conftest import Serve
from tests.issuer import ISSUER, Issuer, Key, issuing, key, rsa_key
from tests.support import Service, claims, sign
from tests.wire import WireAnswer, exchange, head

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

EC = key("ec", "ES256")
RSA = Key("RS256", rsa_key(), "rsa")
ED = key("ed", "EdDSA")
STRANGER = key("ec", "ES256")
"""Somebody else's key, under an id that is known."""


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
    """Sign with the provider's key, whatever the header says."""
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
    """A forged token, and a word for what is tried."""

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
    yield Attack("another type's key", EC.token(kid="rsa"))


def secrets_that_are_public() -> Iterator[Attack]:
    """RFC 8725 section 2.1: what is public is no secret."""
    for signer in (EC, RSA, ED):
        header = {"alg": "HS256", "kid": signer.kid}
        pem = public(signer, Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        der = public(signer, Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for name, secret in {
            "PEM": pem,
            "PEM without its last line break": pem.rstrip(),
            "DER": der,
            "JWK": json.dumps(signer.jwk()).encode(),
            "id": str(signer.kid).encode(),
        }.items():
            yield Attack(
                f"HS256 over the {signer.algorithm} key's {name}", hmac_signed(header, secret)
            )
    yield Attack("HS256 over nothing", hmac_signed({"alg": "HS256", "kid": "ec"}, b""))


def keys_brought_along() -> Iterator[Attack]:
    """RFC 8725 sections 3.5 and 3.10: a token does not bring its own key."""
    certificate = b64encode(public(STRANGER, Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    for kid in ("ec", "stranger"):
        brought: dict[str, dict[str, Any]] = {
            "jwk": {"jwk": STRANGER.jwk(kid=kid)},
            "jku": {"jku": "https://attacker.example/jwks.json"},
            "x5u": {"x5u": "https://attacker.example/chain.pem"},
            "x5c": {"x5c": [certificate.decode()]},
            "x5t": {"x5t": segment(b"\x00" * 20), "x5t#S256": segment(b"\x00" * 32)},
            "nothing": {},
        }
        for name, extra in brought.items():
            yield Attack(f"{name} with the kid {kid}", STRANGER.token(**{**extra, "kid": kid}))


def demands() -> Iterator[Attack]:
    """RFC 7515 section 4.1.11, RFC 7797: an extension that is not understood is refused."""
    lists: list[Any] = [["exp"], ["b64"], [], ["a\nb"], "exp", None, {}, [None]]
    for crit in lists:
        yield Attack(f"crit {crit!r}, well signed", EC.token(crit=crit))
    for b64 in (False, True, 0, None):
        yield Attack(f"b64 {b64!r}", well_signed({"alg": "ES256", "kid": "ec", "b64": b64}))
    payload = '{"id":"pt_1"}'
    plain = f"{segment({'alg': 'ES256', 'kid': 'ec', 'b64': False, 'crit': ['b64']})}.{payload}"
    yield Attack("a payload that is not encoded", f"{plain}.eA")


def key_ids() -> Iterator[Attack]:
    """RFC 8725 section 3.10: a key id is compared, and used for nothing else."""
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
        yield Attack(f"kid {kid[:30]!r} over an empty secret", hmac_signed(header, b""))
    yield Attack("a kid of 8 kB", EC.token(kid="k" * 8000))
    types: list[Any] = [0, True, ["ec"], {"kid": "ec"}]
    for kid_type in types:
        yield Attack(f"kid {kid_type!r}", well_signed({"alg": "ES256", "kid": kid_type}))


def shapes() -> Iterator[Attack]:
    """RFC 8725 sections 2.4, 2.5, 3.11: only what is a signed token in compact form is read."""
    good = EC.token()
    first, second, third = good.split(".")
    flat = json.dumps({"payload": second, "protected": first, "signature": third})
    whole = {
        "a token in a token": compact({"alg": "ES256", "kid": "ec", "cty": "JWT"}, good),
        "a token in a token, well signed": sign(
            good.encode(), EC.private, "ES256", kid="ec", cty="JWT"
        ),
        "an encrypted token": ".".join(
            [segment({"alg": "dir", "enc": "A128GCM"}), "", "x", "x", "x"]
        ),
        "an encrypted token, full": ".".join(
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
        "the other base64": compact({"alg": "ES256", "kid": "ec"}, b"\xfb\xff").replace("_", "/"),
        "a space inside": f"{first}.{second} .{third}",
        "a word after it": f"{good} x",
        "a second one after it": f"{good}, {good}",
        "quotes": f'"{good}"',
        "a header that is a list": f"{segment(b'[]')}.{second}.{third}",
        "a header that is no JSON": f"{segment(b'ES256')}.{second}.{third}",
        "a header in UTF-16": well_signed('{"alg":"ES256","kid":"ec"}'.encode("utf-16")),
        "a header that nests without end": f"{segment(b'[' * 4000)}.{second}.{third}",
        "alg given twice": well_signed('{"alg":"ES256","alg":"none","kid":"ec"}'),
        "another token's payload": f"{first}.{segment(claims(iss=ISSUER, id='pt_2'))}.{third}",
        "another token's signature": resigned(good, b"x" * 64),
        "9,000 bytes": EC.token(claims(iss=ISSUER, more="x" * 6500)),
    }
    for name, token in whole.items():
        yield Attack(name, token)


def signatures() -> Iterator[Attack]:
    """RFC 7518 section 3.4 and others: edges of the signature schemes."""
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
    yield Attack("ECDSA, cut", resigned(good, real[:-1]))
    yield Attack("ECDSA, with a byte more", resigned(good, real + b"\x00"))
    yield Attack("ECDSA, with a byte before", resigned(good, b"\x00" + real))
    yield Attack("ECDSA, halves exchanged", resigned(good, real[32:] + real[:32]))
    modulus = RSA.private.public_key().public_numbers().n
    for name, value in {"0": 0, "1": 1, "n - 1": modulus - 1, "n": modulus}.items():
        yield Attack(f"RSA signature {name}", resigned(RSA.token(), value.to_bytes(256, "big")))
    rsa_real = urlsafe(RSA.token().rpartition(".")[2])
    yield Attack("RSA, with a byte before", resigned(RSA.token(), b"\x00" + rsa_real))
    for octets in (b"\x00" * 64, b"\x01" + b"\x00" * 63, b"\xff" * 64):
        yield Attack(f"EdDSA {octets[:1]!r}", resigned(ED.token(), octets))


def urlsafe(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


ATTACKS = [
    *algorithms(),
    *secrets_that_are_public(),
    *keys_brought_along(),
    *demands(),
    *key_ids(),
    *shapes(),
    *signatures(),
]
BY_NAME = {attack.name: attack.token for attack in ATTACKS}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing(EC, RSA, ED) as issuer:
        yield issuer


@pytest.fixture
async def guarded(issuer: Issuer, serve: Serve) -> Service:
    return await serve(**issuer.variables, RATE_LIMIT="off")


async def show(service: Service, token: str) -> WireAnswer:
    return await exchange(service, head(b"Authorization: Bearer " + token.encode()))


def test_there_are_so_many_attacks_and_each_has_its_own_name() -> None:
    assert len(BY_NAME) == len(ATTACKS) > 150


@pytest.mark.parametrize("signer", [EC, RSA, ED], ids=["ES256", "RS256", "EdDSA"])
async def test_who_does_not_attack_is_granted(guarded: Service, signer: Key) -> None:
    assert (await show(guarded, signer.token())).status == 200


async def test_a_token_signed_by_hand_is_granted(guarded: Service) -> None:
    assert (await show(guarded, well_signed({"alg": "ES256", "kid": "ec"}))).status == 200


@pytest.mark.parametrize("name", BY_NAME)
async def test_an_attack_is_refused_like_any_bad_token(
    guarded: Service, issuer: Issuer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    answer = await show(guarded, BY_NAME[name])
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_INVALID")
    assert answer.headers.getall("WWW-Authenticate") == [
        'Bearer realm="vapi-sessions", error="invalid_token"'
    ]
    assert "X-Injected" not in answer.headers
    assert [each.message for each in caplog.records if each.levelname != "INFO"] == []
    assert issuer.fetches <= 2


PEM = public(RSA, Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
WITH_ONE_KEY = [name for name in BY_NAME if "SHA-512" not in name]


@pytest.mark.parametrize("name", WITH_ONE_KEY)
async def test_an_attack_is_refused_where_one_public_key_is_configured(
    serve: Serve, name: str
) -> None:
    service = await serve(JWT_SECRET="", JWT_PUBLIC_KEY=PEM.decode(), JWT_ISSUER=ISSUER)
    answer = await show(service, BY_NAME[name])
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_INVALID")


@pytest.mark.parametrize(
    "name", [each.name for each in algorithms() if "none" in each.name.lower()]
)
async def test_none_is_refused_where_a_secret_is_configured(service: Service, name: str) -> None:
    answer = await show(service, BY_NAME[name])
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_INVALID")


# --- claims -------------------------------------------------------------------------------------

INVALID = (401, "AUTH_TOKEN_INVALID")
EXPIRED = (401, "AUTH_TOKEN_EXPIRED")
NO_ID = (400, "INVALID_PATIENT_CONTEXT")
NO_PATIENT = (403, "FORBIDDEN")
NO_DATES = ['"9999999999"', '"soon"', "true", "false", "[]", "{}", "null", "NaN", "Infinity"]
NO_DATES += ["-Infinity", "1e999", "-1e999", "9" * 400, "[1]"]


def payload(**changes: str) -> bytes:
    """Write claims as JSON text, some of them as given."""
    members = {name: json.dumps(value) for name, value in claims(iss=ISSUER).items()}
    return ("{" + ",".join(f'"{n}":{v}' for n, v in {**members, **changes}.items()) + "}").encode()


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        *(
            pytest.param(payload(**{date: value}), INVALID, id=f"{date} {value[:20]}")
            for date in ("exp", "nbf", "iat")
            for value in NO_DATES
        ),
        pytest.param(payload(exp="1"), EXPIRED, id="exp long ago"),
        pytest.param(payload(exp="-1"), EXPIRED, id="exp before the epoch"),
        pytest.param(payload(exp="9" * 5000), INVALID, id="exp of 5000 digits"),
        pytest.param(payload(iss='["https://issuer.example/"]'), INVALID, id="iss in a list"),
        pytest.param(payload(iss="null"), INVALID, id="iss null"),
        pytest.param(payload(iss='"https://issuer.example"'), INVALID, id="iss without its slash"),
        pytest.param(payload(iss='"HTTPS://issuer.example/"'), INVALID, id="iss in other letters"),
        pytest.param(payload(aud='["other", "voices"]'), INVALID, id="other aud"),
        pytest.param(payload(aud='{"voice": 1}'), INVALID, id="aud an object"),
        pytest.param(payload(aud='[["voice"]]'), INVALID, id="aud nested"),
        pytest.param(payload(aud='"voice,other"'), INVALID, id="aud with a comma"),
        pytest.param(payload(aud="true"), INVALID, id="aud true"),
        pytest.param(payload(jti="{}"), INVALID, id="jti an object"),
        pytest.param(payload(jti="[1]"), INVALID, id="jti a list"),
        pytest.param(payload(id="true"), NO_ID, id="id true"),
        pytest.param(payload(id="null"), NO_ID, id="id null"),
        pytest.param(payload(id="[]"), NO_ID, id="id a list"),
        pytest.param(payload(id='"pt_1\\n"'), NO_ID, id="id with a line break"),
        pytest.param(payload(id='"pt_1\\u0000"'), NO_ID, id="id with a NUL"),
        pytest.param(payload(id='"\\ud800"'), NO_ID, id="id a surrogate"),
        pytest.param(payload(id='"' + "x" * 129 + '"'), NO_ID, id="id of 129 characters"),
        pytest.param(payload(id="1.5"), NO_ID, id="id a fraction"),
        pytest.param(payload(id="1" * 129), NO_ID, id="id of 129 digits"),
        pytest.param(payload(id="1" * 4301), INVALID, id="id of 4301 digits"),
        pytest.param(payload(id='{"$ne": null}'), NO_ID, id="id an operator"),
        pytest.param(payload(type="true"), NO_PATIENT, id="role true"),
        pytest.param(payload(type='{"patient": true}'), NO_PATIENT, id="role an object"),
        pytest.param(payload(type='"Patient"'), NO_PATIENT, id="role in other letters"),
        pytest.param(payload(type='"patient "'), NO_PATIENT, id="role with a space"),
        pytest.param(payload(type='[["patient"]]'), NO_PATIENT, id="role nested"),
        pytest.param(payload(type='"nurse,patient"'), NO_PATIENT, id="role with a comma"),
        pytest.param(payload(more="[" * 2500 + "]" * 2500), INVALID, id="nested without end"),
        pytest.param(b"[]", INVALID, id="a list"),
        pytest.param(b'"claims"', INVALID, id="a string"),
        pytest.param(b"null", INVALID, id="null"),
        pytest.param(b"\xff\xfe", INVALID, id="no UTF-8"),
        pytest.param(b"{" + payload(), INVALID, id="no JSON"),
        pytest.param(payload() + payload(), INVALID, id="two objects"),
    ],
)
async def test_claims_that_are_none_prove_nothing(
    issuer: Issuer,
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
    text: bytes,
    refusal: tuple[int, str],
) -> None:
    audience = "voice" if b'"aud"' in text else ""
    service = await serve(**issuer.variables, JWT_AUDIENCE=audience)
    answer = await show(service, sign(text, EC.private, "ES256", kid="ec"))
    assert (answer.status, answer.code) == refusal
    assert [each.message for each in caplog.records if each.levelname != "INFO"] == []


async def test_of_a_claim_given_twice_everybody_reads_the_last(
    guarded: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    text = payload()[:-1] + b',"id":"pt_2"}'
    answer = await show(guarded, sign(text, EC.private, "ES256", kid="ec"))
    assert answer.json["data"]["patientContext"]["id"] == "pt_2"
    assert json.loads(capsys.readouterr().out)["patient"] == "pt_2"


# --- the way here (RFC 6750) ---------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "])
async def test_the_scheme_may_be_in_any_letters(service: Service, scheme: str) -> None:
    assert (await exchange(service, head(f"Authorization: {scheme} {sign()}"))).status == 200


@pytest.mark.parametrize(
    "before",
    [b"BearerX ", b"Bearer\t", b"Bearer\xa0", b"Bearer", b"Bearer:", b"Bearer,", b"Basic ", b"JWT ",
     b"", b"Digest ", b"Bearer Bearer ", b"X Bearer ", b"Bearer=", b'Bearer realm="x" ', b"\xff "],
)  # fmt: skip
async def test_no_other_scheme_will_do(service: Service, before: bytes) -> None:
    answer = await exchange(service, head(b"Authorization: " + before + sign().encode()))
    assert (answer.status, answer.code) == INVALID


async def test_two_headers_are_one_too_many(service: Service) -> None:
    line = f"Authorization: Bearer {sign()}"
    for second in (line, "authorization: Bearer x", "Authorization:"):
        answer = await exchange(service, head(line, second))
        assert (answer.status, answer.code) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("method_of_section_2", ["query", "form", "json", "cookie", "other header"])
async def test_a_token_elsewhere_is_not_read(service: Service, method_of_section_2: str) -> None:
    token = sign()
    request: dict[str, dict[str, Any]] = {
        "query": {"params": {"access_token": token}},
        "form": {"data": {"access_token": token}},
        "json": {"json": {"access_token": token}},
        "cookie": {"headers": {"Cookie": f"access_token={token}; Authorization=Bearer {token}"}},
        "other header": {"headers": {"Proxy-Authorization": f"Bearer {token}"}},
    }
    answer = await service.start(**request[method_of_section_2])
    assert (answer.status, answer.code) == (401, "AUTH_TOKEN_MISSING")
    assert answer.response.headers["WWW-Authenticate"] == 'Bearer realm="vapi-sessions"'


async def test_the_challenge_names_the_error_where_there_is_one(serve: Serve) -> None:
    service = await serve(JWT_REQUIRED_SCOPE="voice")
    answer = await service.start(sign())
    told = answer.response.headers["WWW-Authenticate"]
    assert (answer.status, told) == (
        403,
        'Bearer realm="vapi-sessions", error="insufficient_scope"',
    )
