"""Random and mutated tokens: every token that the service accepts, joserfc accepts too."""

import asyncio
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import event, given
from hypothesis import strategies as st
from joserfc import jwk, jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry
from joserfc.registry import HeaderParameter

from middlewares.authentication import bearer_token
from middlewares.context import Principal
from middlewares.errors import ApiError
from rig.issuer import ISSUER, make_key
from rig.service import SECRET, claims, make_settings, sign
from server.auth.authenticator import make_authenticator
from server.auth.claims import ClaimRules
from server.auth.keys import make_static_provider

pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")

NOW = int(time.time())
AUDIENCE = "voice"
ALGORITHMS = ["HS256", "RS256", "PS256", "ES256", "EdDSA", "Ed25519"]
PRIVATE = {"HS256": SECRET, **{name: make_key(name) for name in ALGORITHMS[1:]}}
NEVER_READ = ["jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "typ", "cty"]
"""The service ignores these headers; joserfc must not check their values."""

Decide = Callable[[str], str | None]


def pem(algorithm: str) -> bytes:
    public = PRIVATE[algorithm].public_key()
    made: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return made


RUNNER = asyncio.Runner()


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    with RUNNER:
        yield


async def run(steps: Awaitable[Principal]) -> Principal:
    return await steps


def by_the_service(algorithm: str, **variables: str) -> Decide:
    key = (
        {}
        if algorithm == "HS256"
        else {"JWT_SECRET": "", "JWT_PUBLIC_KEY": pem(algorithm).decode()}
    )
    key = {"JWT_ALGORITHMS": algorithm, **key, **variables}
    settings = make_settings(**key, JWT_ISSUER=ISSUER, JWT_AUDIENCE=AUDIENCE)
    rules = ClaimRules(patient_id_claim="id", role_claim="type", leeway=settings.jwt_leeway_seconds)
    verify = make_authenticator(make_static_provider(settings), rules, lambda: NOW)

    def decide(token: str) -> str | None:
        try:
            principal = RUNNER.run(run(verify(bearer_token([f"Bearer {token}"]))))
        except ApiError:
            return None
        return repr((principal.patient_id, principal.token_id, principal.roles))

    return decide


class Rules(jwt.JWTClaimsRegistry):
    """joserfc's rules for claims, without those for ids: the service accepts numbers too."""

    def validate_sub(self, value: object) -> None:
        """Accept any value."""

    def validate_jti(self, value: object) -> None:
        """Accept any value."""


def by_joserfc(algorithm: str) -> Decide:
    types = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP", "Ed25519": "OKP"}
    key: Any = (
        jwk.import_key(SECRET, "oct")
        if algorithm == "HS256"
        else jwk.import_key(pem(algorithm), types[algorithm])  # type: ignore[call-overload]  # any type
    )
    registry = JWSRegistry(
        {name: HeaderParameter(name, lambda _: None) for name in NEVER_READ},
        algorithms=[algorithm],
        strict_check_header=False,
    )
    registry.max_header_length = 8000
    rules = Rules(
        now=NOW,
        leeway=5,
        exp={"essential": True},
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
    )

    def decide(token: str) -> str | None:
        try:
            found = jwt.decode(token, key, registry=registry).claims
            rules.validate(found)
        except (JoseError, ValueError, TypeError, RecursionError):
            return None
        return repr(found)

    return decide


SERVICE = {name: by_the_service(name) for name in ALGORITHMS}
ALL = by_the_service(
    "HS256",
    JWT_PUBLIC_KEY="".join(pem(each).decode() for each in ALGORITHMS[1:]),
    JWT_ALGORITHMS=",".join(ALGORITHMS),
)
"""With the secret beside all public keys."""
JOSERFC = {name: by_joserfc(name) for name in ALGORITHMS}


def check(algorithm: str, token: str) -> None:
    ours = SERVICE[algorithm](token)
    theirs = JOSERFC[algorithm](token.lstrip(" "))  # several spaces may precede a token
    event(
        f"service {'accepts' if ours else 'rejects'}, joserfc {'accepts' if theirs else 'rejects'}"
    )
    assert not (ours and theirs is None), token
    alone = [accepted for each in SERVICE.values() if (accepted := each(token))]
    assert ALL(token) == (alone[0] if alone else None)


def segment(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def hs256(header: bytes, payload: bytes) -> str:
    """Sign any bytes as header and payload."""
    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{segment(hmac.digest(SECRET.encode(), signed.encode(), 'sha256'))}"


def good(**more: Any) -> dict[str, Any]:
    return claims(iss=ISSUER, aud=AUDIENCE, iat=NOW, exp=NOW + 3600, jti="t1", **more)


GOOD = {name: sign(good(), PRIVATE[name], name) for name in ALGORITHMS}

numbers = st.one_of(
    st.integers(NOW - 20, NOW + 20),
    st.integers(),
    st.floats(),
    st.floats(NOW - 20, NOW + 20),
    st.sampled_from([0, -1, 2**53, 2**63, 10**400, 1e400, float("nan"), True, False]),
)
words = st.sampled_from(
    [
        "",
        ISSUER,
        AUDIENCE,
        "pt_1",
        "patient",
        "HS256",
        "none",
        "JWT",
        "exp",
        str(NOW + 60),
        "\ud800",
    ]
)
scalars = st.none() | numbers | words | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=4,
)
odd_claims = st.dictionaries(
    st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "jti", "sub", "id", "type", "scope"]),
    values,
)
odd_headers = st.dictionaries(
    st.sampled_from(["alg", "kid", "crit", "b64", "zip", "enc", "p2c", "exp", *NEVER_READ]), values
)
left_out = st.sets(st.sampled_from(["iss", "aud", "exp", "iat", "jti", "id"]), max_size=2)
algorithms = st.sampled_from(ALGORITHMS)

characters = st.sampled_from("ABCDwxyz0189-_.=+/ \n\tAEIMQUYcgkosw048")
edits = st.lists(
    st.tuples(st.sampled_from(["replace", "insert", "delete"]), st.integers(0, 2000), characters),
    min_size=1,
    max_size=4,
)


def edited(token: str, changes: list[tuple[str, int, str]]) -> str:
    for how, where, character in changes:
        at = where % (len(token) + 1)
        token = (
            token[:at] + (character if how != "delete" else "") + token[at + (how != "insert") :]
        )
    return token


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_valid_token_is_accepted_by_both(algorithm: str) -> None:
    assert SERVICE[algorithm](GOOD[algorithm])
    assert JOSERFC[algorithm](GOOD[algorithm])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_only_the_canonical_encoding_of_a_signature_is_accepted(algorithm: str) -> None:
    token = GOOD[algorithm]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    encodings = [token[:-1] + character for character in alphabet]
    assert [each for each in encodings if SERVICE[algorithm](each)] == [token]


@given(algorithms, odd_claims, left_out)
def test_odd_claims(algorithm: str, odd: dict[str, Any], without: set[str]) -> None:
    payload = {name: value for name, value in good().items() if name not in without}
    check(algorithm, sign({**payload, **odd}, PRIVATE[algorithm], algorithm))


@given(odd=odd_headers, keep=st.booleans())
def test_odd_headers(*, odd: dict[str, Any], keep: bool) -> None:
    header = {**({"alg": "HS256"} if keep else {}), **odd, **({"alg": "HS256"} if keep else {})}
    check("HS256", hs256(json.dumps(header).encode(), json.dumps(good()).encode()))


@given(algorithms, edits)
def test_edited_tokens(algorithm: str, changes: list[tuple[str, int, str]]) -> None:
    check(algorithm, edited(GOOD[algorithm], changes))


@given(algorithms, st.permutations(range(3)), algorithms)
def test_segments_of_several_tokens(algorithm: str, order: list[int], other: str) -> None:
    ours, theirs = GOOD[algorithm].split("."), GOOD[other].split(".")
    check(
        algorithm, ".".join((ours if at == 1 else theirs)[which] for at, which in enumerate(order))
    )


@given(
    header=st.binary(max_size=80),
    payload=st.binary(max_size=80),
    whole_header=st.booleans(),
    whole_payload=st.booleans(),
)
def test_any_signed_bytes(
    header: bytes, payload: bytes, *, whole_header: bool, whole_payload: bool
) -> None:
    header = b'{"alg":"HS256"}' if whole_header else header
    payload = json.dumps(good()).encode() if whole_payload else payload
    check("HS256", hs256(header or b" ", payload or b" "))


@given(
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"]),
    st.lists(st.sampled_from(["alg", "kid"]), max_size=2),
    st.lists(st.sampled_from(["exp", "id", "iss", "aud", "jti", "nbf"]), max_size=2),
    st.lists(words | numbers, min_size=4, max_size=4),
)
def test_encodings_and_duplicate_names(
    header_encoding: str,
    payload_encoding: str,
    header_twice: list[str],
    payload_twice: list[str],
    odd: list[Any],
) -> None:
    header = written({"alg": "HS256"}, dict(zip(header_twice, odd[:2], strict=False)))
    payload = written(good(), dict(zip(payload_twice, odd[2:], strict=False)))
    data = header.encode(header_encoding), payload.encode(payload_encoding)
    check("HS256", hs256(*data))


def written(value: dict[str, Any], before: dict[str, Any]) -> str:
    """Write JSON in which some names occur twice."""
    parts = [json.dumps(part)[1:-1] for part in (before, value) if part]
    return f"{{{','.join(parts)}}}"
