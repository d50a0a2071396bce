"""Verified claims: the rules for dates, and the principal that they describe."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.context import Principal
from middlewares.errors import ApiError, ErrorCode
from rig.service import make_settings
from server.auth.claims import ClaimRules, Claims, find_claim, make_claim_rules, parse_patient_id
from tests.middlewares.support import NOW
from tests.server.auth.tokens import LONG_AGO, RULES, admit, claims, parsed

INVALID = ErrorCode.AUTH_TOKEN_INVALID
EXPIRED = ErrorCode.AUTH_TOKEN_EXPIRED
PATIENT_ID = re.compile(r"[A-Za-z0-9._:@|+/=-]{1,128}")
GOOGOL = "1" + 100 * "0"
NOT_NUMBERS = [
    *["null", "true", "false", '""', '"soon"', "[]", "{}", "[4000000060]"],
    *['"1"', '"4000000060"', '"4000000060.0"', '"2027-01-15T08:01:00Z"'],
]
OTHER_OBJECTS: list[Any] = [{}, "id", ["id"], None]
NO_STRINGS: list[Any] = [[], None, 1]
OUT_OF_RANGE = [
    *["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + 400 * "0", "-1" + 400 * "0"],
]


TOO_LONG = "The token's lifetime (exp minus iat) is longer than allowed"
NOT_YET = "The token is not valid yet (nbf or iat is in the future)"


def assert_rejected(rules: ClaimRules, payload: Claims, code: ErrorCode, details: str) -> None:
    with pytest.raises(ApiError) as caught:
        admit(rules, payload)
    assert (caught.value.code, caught.value.details) == (code, details)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_claims_describe_the_principal() -> None:
    principal = admit(RULES, claims(jti="t1", scope="voice start"))
    assert principal == Principal(
        patient_id="pt_1",
        roles=frozenset({"patient"}),
        scopes=frozenset({"voice", "start"}),
        token_id="t1",
        valid_from=LONG_AGO,
        expires_at=NOW + 60,
    )


# --- dates --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leeway", "exp", "passes"),
    [
        *[(0, NOW + 0.001, True), (0, NOW, False), (0, NOW - 1, False), (5, NOW - 4.999, True)],
        *[(5, NOW - 5, False), (5, NOW - 5.001, False), (5, 0, False), (5, -1, False)],
    ],
)
def test_token_expires_when_exp_and_leeway_have_passed(
    leeway: float, exp: float, *, passes: bool
) -> None:
    rules = replace(RULES, leeway=leeway)
    if passes:
        assert admit(rules, claims(exp=exp)).expires_at == exp
    else:
        assert_rejected(rules, claims(exp=exp), EXPIRED, "Refresh the token and try again")


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize(
    ("leeway", "date", "passes"),
    [
        *[(0, NOW, True), (0, NOW + 0.001, False), (5, NOW + 5, True), (5, NOW + 5.001, False)],
        *[(5, 0, True), (5, -1, True), (5, NOW + 1e12, False)],
    ],
)
def test_token_is_not_valid_before_nbf_and_iat_minus_leeway(
    name: str, leeway: float, date: float, *, passes: bool
) -> None:
    rules = replace(RULES, leeway=leeway)
    payload = claims(**{name: date})
    if passes:
        assert admit(rules, payload).patient_id == "pt_1"
    else:
        assert_rejected(rules, payload, INVALID, NOT_YET)


def test_later_of_nbf_and_iat_counts() -> None:
    for payload in (claims(nbf=10, iat=20), claims(nbf=20, iat=10), claims(nbf=20, iat=...)):
        assert admit(RULES, payload).valid_from == 20
    assert admit(RULES, claims(nbf=..., iat=...)).valid_from == 0
    assert admit(RULES, claims(nbf=-5, iat=-7)).valid_from == -5


def test_exp_is_required() -> None:
    assert_rejected(RULES, claims(exp=...), INVALID, "The token has no exp claim")


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        *((value, "is not a number") for value in NOT_NUMBERS),
        *((value, "is out of range") for value in OUT_OF_RANGE),
    ],
)
def test_malformed_date_is_invalid_not_expired(name: str, value: str, reason: str) -> None:
    payload = {**claims(), **parsed(f'{{"{name}": {value}}}')}
    assert_rejected(RULES, payload, INVALID, f"The token's {name} claim {reason}")


@pytest.mark.parametrize(
    "exp", ["4000000060", "4000000060.0", "4.00000006e9", "4000000060.75", "1e308", GOOGOL]
)
def test_date_can_be_any_json_number(exp: str) -> None:
    payload = {**claims(), **parsed(f'{{"exp": {exp}}}')}
    assert admit(RULES, payload).expires_at == float(exp)


@pytest.mark.parametrize(
    ("iat", "exp", "details"),
    [
        (NOW - 40, NOW + 60, None),
        (NOW - 41, NOW + 60, TOO_LONG),
        (NOW + 3, NOW + 103, None),
        (NOW - 100, NOW + 0.5, TOO_LONG),
        (-1e308, 1e308, TOO_LONG),
        (0, NOW - 1, TOO_LONG),
        (..., NOW + 60, "The token has no iat claim, so its lifetime is unknown"),
    ],
)
def test_lifetime_has_a_maximum(iat: Any, exp: float, details: str | None) -> None:
    rules = replace(RULES, leeway=5, max_lifetime=100)
    payload = claims(iat=iat, exp=exp)
    if details is None:
        assert admit(rules, payload).expires_at == exp
    else:
        assert_rejected(rules, payload, INVALID, details)


def test_without_a_maximum_any_lifetime_is_valid() -> None:
    assert admit(ClaimRules("id", "type"), claims(iat=0, exp=NOW + 1e9)).expires_at == NOW + 1e9


# --- patient id ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "patient_id"),
    [
        *[('"pt_1"', "pt_1"), ('"a"', "a"), (f'"{"x" * 128}"', "x" * 128)],
        ('"A-Za-z0-9._:@|+/="', "A-Za-z0-9._:@|+/="),
        *[("7", "7"), ("0", "0"), ("-7", "-7"), ("7.0", "7"), ("7e2", "700"), ("-0.0", "0")],
        ("9007199254740991.0", "9007199254740991"),
        ("1" + 127 * "0", "1" + 127 * "0"),
    ],
)
def test_patient_id_is_text_or_a_whole_number(value: str, patient_id: str) -> None:
    payload = {**claims(), **parsed(f'{{"id": {value}}}')}
    assert admit(RULES, payload).patient_id == patient_id


@pytest.mark.parametrize(
    "value",
    [
        *["null", "true", "false", "[]", "{}", '["pt_1"]', '{"id": "pt_1"}'],
        *["7.5", "NaN", "Infinity", "-Infinity", "1e999", "1e300", "9007199254740992.0"],
        "1" + 128 * "0",
        *['""', f'"{"x" * 129}"', '"a b"', '" a"', '"a\\n"', '"\\na"', '"a\\u0000"', '"a\\\\"'],
        *['"ä"', '"\\u0663"', '"\\ud800"', '"\\u2028"', '"a\\"b"', '"a,b"', '"*"', '"%0a"'],
    ],
)
def test_other_values_are_not_a_patient_id(value: str) -> None:
    payload = {**claims(), **parsed(f'{{"id": {value}}}')}
    assert admit(RULES, payload).patient_id is None


def test_patient_and_token_id_can_be_missing() -> None:
    principal = admit(RULES, claims(id=...))
    assert (principal.patient_id, principal.token_id) == (None, None)


@pytest.mark.parametrize(
    ("path", "payload", "found"),
    [
        ("id", {"id": 1}, 1),
        ("a.b.c", {"a": {"b": {"c": 1}}}, 1),
        ("user.id", {"user.id": 1, "user": {"id": 2}}, 1),
        ("user.id", {"user.id": None, "user": {"id": 2}}, None),
        ("https://x.example/id", {"https://x.example/id": 1}, 1),
        ("id", {}, None),
        *[("user.id", {"user": each}, None) for each in OTHER_OBJECTS],
        ("user.id", {"id": 1}, None),
        ("a.b.c", {"a": {"b.c": 1}}, 1),
        ("a.b.c", {"a": {"b": {"c": 2}, "b.c": 1}}, 1),
        ("a.b.c", {"a.b": {}, "a": {"b": {"c": 1}}}, None),
        ("resource.v.example.roles", {"resource": {"v.example": {"roles": 1}}}, 1),
        ("https://h.io/jwt/claims.x-role", {"https://h.io/jwt/claims": {"x-role": 1}}, 1),
    ],
)
def test_longest_name_is_taken_at_each_level(path: str, payload: Claims, found: object) -> None:
    assert find_claim(payload, path) == found


def test_without_a_role_claim_there_are_no_roles() -> None:
    assert admit(replace(RULES, role_claim=""), claims()).roles == set()


@pytest.mark.parametrize(
    ("changes", "lacking"),
    [
        ({}, None),
        ({"azp": ["other", "web"]}, None),
        ({"level": 3.5}, None),
        ({"azp": "other"}, "azp"),
        ({"azp": ...}, "azp"),
        ({"azp": {"app": 1}}, "azp"),
        ({"azp": [["app"]]}, "azp"),
        ({"verified": "true"}, None),
        ({"verified": False}, "verified"),
        ({"level": 2.0}, "level"),
        ({"level": None}, "level"),
        ({"a": {"b": "y"}}, "a.b"),
    ],
)
def test_required_claims_have_one_of_the_values(
    changes: dict[str, object], lacking: str | None
) -> None:
    required = "azp=app|web, verified=true, level=2 | 3.5, a.b=x"
    rules = make_claim_rules(make_settings(JWT_REQUIRED_CLAIMS=required))
    sound = {"azp": "app", "verified": True, "level": 2, "a": {"b": "x"}}
    payload = claims(**{**sound, **changes})
    if lacking is None:
        rules.check_required(payload)
        return
    with pytest.raises(ApiError) as caught:
        rules.check_required(payload)
    assert caught.value.details == f"The token's claim {lacking} does not have a required value"
    assert caught.value.reason == "claims"


def test_claim_names_are_configurable() -> None:
    rules = ClaimRules(patient_id_claim="user.number", role_claim="app.roles")
    payload = claims(user={"number": 7}, app={"roles": ["patient", "parent"]})
    principal = admit(rules, payload)
    assert principal.patient_id == "7"
    assert principal.roles == {"patient", "parent"}


# --- roles and scopes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "roles"),
    [
        ("patient", {"patient"}),
        ({"patient": {"1": "clinic"}, "staff": {}}, {"patient", "staff"}),
        *[({}, set()), (True, {"true"}), (False, {"false"})],
        (["patient", "admin"], {"patient", "admin"}),
        (["patient", 1, None, ["admin"], {"admin": 1}], {"patient"}),
        ("patient admin", {"patient admin"}),
        *[(each, set()) for each in (*NO_STRINGS, ...)],
        ("\ud800", {"\ud800"}),
    ],
)
def test_roles_are_a_string_a_list_an_object_or_a_boolean(value: object, roles: set[str]) -> None:
    assert admit(RULES, claims(type=value)).roles == roles


@pytest.mark.parametrize("name", ["scope", "scp", "scopes", "permissions"])
@pytest.mark.parametrize(
    ("value", "scopes"),
    [
        ("voice", {"voice"}),
        ("voice  start ", {"voice", "start"}),
        (["voice", "start"], {"voice", "start"}),
        (["voice start", 1, None, ["more"]], {"voice", "start"}),
        ("voice\tstart", {"voice\tstart"}),
        *[(each, set()) for each in ("", {"voice": 1}, *NO_STRINGS)],
    ],
)
def test_scopes_are_a_spaced_string_or_a_list(name: str, value: object, scopes: set[str]) -> None:
    assert admit(RULES, claims(**{name: value})).scopes == scopes


def test_scopes_of_all_four_claims_and_no_others_are_combined() -> None:
    payload = claims(scope="a", scp="b", scopes=["c"], permissions=["d"], scoped="e")
    assert admit(RULES, payload).scopes == {"a", "b", "c", "d"}


# --- jti ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "token_id"),
    [
        *[('"t1"', "t1"), ('""', ""), ('"\\ud800"', "\ud800"), ('"a\\nb"', "a\nb")],
        *[("7", "7"), ("-7", "-7"), (GOOGOL, GOOGOL), ("null", None)],
    ],
)
def test_token_id_is_any_text_or_a_whole_number(value: str, token_id: str | None) -> None:
    payload = {**claims(), **parsed(f'{{"jti": {value}}}')}
    assert admit(RULES, payload).token_id == token_id


@pytest.mark.parametrize("value", ["true", "false", "1.5", "7.0", "NaN", "1e999", "[]", "{}"])
def test_token_id_that_cannot_be_revoked_is_invalid(value: str) -> None:
    payload = {**claims(), **parsed(f'{{"jti": {value}}}')}
    assert_rejected(RULES, payload, INVALID, "The token's jti claim is not a string")


any_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(any_json)
def test_any_value_is_a_patient_id_or_none(value: object) -> None:
    usable = parse_patient_id(value)
    assert usable is None or PATIENT_ID.fullmatch(usable)
    assert usable in (None, value) or isinstance(value, int | float)


@given(
    st.dictionaries(st.sampled_from(["id", "type", "exp", "nbf", "iat", "jti", "scp"]), any_json)
)
def test_any_claims_give_a_principal_or_a_rejection(payload: dict[str, Any]) -> None:
    try:
        principal = admit(replace(RULES, max_lifetime=100), {**claims(), **payload})
    except ApiError as error:
        assert error.code in {INVALID, EXPIRED}  # noqa: PT017  either result is fine
    else:
        assert NOW < principal.expires_at < NOW + 100
