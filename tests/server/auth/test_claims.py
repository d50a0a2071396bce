"""What verified claims mean: their dates, and whom they describe."""

import math
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.api_errors import ApiError, ErrorCode
from middlewares.request_context import Principal
from server.auth.claims import ClaimRules, Claims, find_claim
from server.auth.patient_id import parse_patient_id
from tests.middlewares.support import NOW, PATIENT, outcome, refused
from tests.middlewares.tokens import LONG_AGO, RULES, admit, claims, parsed

INVALID = ErrorCode.AUTH_TOKEN_INVALID
EXPIRED = ErrorCode.AUTH_TOKEN_EXPIRED
PATIENT_ID = re.compile(r"[A-Za-z0-9._:@|+/=-]{1,128}")
GOOGOL = "1" + 100 * "0"


def details_of(rules: ClaimRules, payload: Claims) -> str:
    with pytest.raises(ApiError) as caught:
        admit(rules, payload)
    return caught.value.details


def test_good_claims_describe_the_caller() -> None:
    principal = admit(RULES, claims(jti="t1", scope="voice start"))
    assert principal == Principal(
        patient_id="pt_1",
        roles=frozenset({"patient"}),
        scopes=frozenset({"voice", "start"}),
        token_id="t1",
        valid_from=LONG_AGO,
        expires_at=NOW + 60,
    )


# Dates


@pytest.mark.parametrize(
    ("leeway", "exp", "passes"),
    [
        (0, NOW + 0.001, True),
        (0, NOW, False),
        (0, NOW - 1, False),
        (5, NOW - 4.999, True),
        (5, NOW - 5, False),
        (5, NOW - 5.001, False),
        (5, 0, False),
        (5, -1, False),
        (300, NOW - 299, True),
    ],
)
def test_a_token_expires_when_its_exp_and_the_leeway_have_passed(
    leeway: float, exp: float, *, passes: bool
) -> None:
    rules = replace(RULES, leeway=leeway)
    if passes:
        assert admit(rules, claims(exp=exp)).expires_at == exp
    else:
        assert refused(admit, rules, claims(exp=exp)) == EXPIRED


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize(
    ("leeway", "date", "passes"),
    [
        (0, NOW, True),
        (0, NOW + 0.001, False),
        (5, NOW + 5, True),
        (5, NOW + 5.001, False),
        (5, 0, True),
        (5, -1, True),
        (5, NOW + 1e12, False),
    ],
)
def test_a_token_is_not_valid_before_its_nbf_or_iat_less_the_leeway(
    name: str, leeway: float, date: float, *, passes: bool
) -> None:
    rules = replace(RULES, leeway=leeway)
    payload = claims(**{name: date})
    if passes:
        assert admit(rules, payload).patient_id == "pt_1"
    else:
        assert refused(admit, rules, payload) == INVALID


def test_a_token_needs_neither_nbf_nor_iat() -> None:
    assert admit(RULES, claims(nbf=..., iat=...)).patient_id == "pt_1"


def test_a_token_without_exp_is_invalid_and_told_so() -> None:
    assert refused(admit, RULES, claims(exp=...)) == INVALID
    assert details_of(RULES, claims(exp=...)) == "The token has no exp claim"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value",
    [
        *["null", "true", "false", '""', '"soon"', "[]", "{}", "[4000000060]"],
        *['"1"', '"4000000060"', '"4000000060.0"', '"2027-01-15T08:01:00Z"'],
        *["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + 400 * "0", "-1" + 400 * "0"],
    ],
)
def test_a_date_that_is_no_number_is_invalid_and_never_merely_expired(
    name: str, value: str
) -> None:
    payload = {**claims(), **parsed(f'{{"{name}": {value}}}')}
    assert refused(admit, RULES, payload) == INVALID
    assert f"The token's {name} claim is" in details_of(RULES, payload)


@pytest.mark.parametrize("exp", ["4000000060", "4000000060.0", "4.00000006e9", "4000000060.75"])
def test_a_date_may_be_written_as_any_number(exp: str) -> None:
    payload = {**claims(), **parsed(f'{{"exp": {exp}}}')}
    assert admit(RULES, payload).expires_at == pytest.approx(NOW + 60, abs=1)


@pytest.mark.parametrize("exp", ["1e308", GOOGOL])
def test_a_date_may_be_far_away(exp: str) -> None:
    payload = {**claims(), **parsed(f'{{"exp": {exp}}}')}
    assert admit(RULES, payload).expires_at == float(exp)


@pytest.mark.parametrize(
    ("iat", "exp", "passes"),
    [
        (NOW - 40, NOW + 60, True),
        (NOW - 41, NOW + 60, False),
        (NOW + 3, NOW + 103, True),
        (NOW - 100, NOW + 0.5, False),
        (-1e308, 1e308, False),
        (..., NOW + 60, False),
    ],
)
def test_a_lifetime_may_have_a_maximum_and_then_must_be_known(
    iat: Any, exp: float, *, passes: bool
) -> None:
    rules = replace(RULES, leeway=5, max_lifetime=100)
    payload = claims(iat=iat, exp=exp)
    if passes:
        assert admit(rules, payload).expires_at == exp
    else:
        assert refused(admit, rules, payload) == INVALID


def test_without_a_maximum_any_lifetime_will_do() -> None:
    assert admit(RULES, claims(iat=0, exp=NOW + 1e9)).expires_at == NOW + 1e9


def test_a_token_that_lived_too_long_is_invalid_even_when_it_has_run_out() -> None:
    rules = replace(RULES, max_lifetime=10)
    assert refused(admit, rules, claims(iat=0, exp=NOW - 1)) == INVALID


@pytest.mark.parametrize(
    ("later", "over"), [(0, False), (59.9, False), (64.9, False), (65, True), (1e9, True)]
)
def test_a_caller_remembered_is_over_when_their_token_would_be(later: float, *, over: bool) -> None:
    rules = replace(RULES, leeway=5)
    expected = EXPIRED if over else None
    assert outcome(rules.check_dates, PATIENT, NOW + later) == expected


# The patient


@pytest.mark.parametrize(
    ("value", "patient_id"),
    [
        ('"pt_1"', "pt_1"),
        ('"a"', "a"),
        (f'"{"x" * 128}"', "x" * 128),
        ('"A-Za-z0-9._:@|+/="', "A-Za-z0-9._:@|+/="),
        ("7", "7"),
        ("0", "0"),
        ("-7", "-7"),
        ("7.0", "7"),
        ("7e2", "700"),
        ("-0.0", "0"),
        ("9007199254740991.0", "9007199254740991"),
        (GOOGOL, GOOGOL),
        ("1" + 127 * "0", "1" + 127 * "0"),
    ],
)
def test_an_id_is_plain_text_or_a_whole_number(value: str, patient_id: str) -> None:
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
def test_anything_else_is_no_usable_id(value: str) -> None:
    payload = {**claims(), **parsed(f'{{"id": {value}}}')}
    assert admit(RULES, payload).patient_id is None


def test_claims_without_an_id_describe_a_caller_without_one() -> None:
    assert admit(RULES, claims(id=...)).patient_id is None


@pytest.mark.parametrize(
    ("path", "payload", "found"),
    [
        ("id", {"id": 1}, 1),
        ("user.id", {"user": {"id": 1}}, 1),
        ("a.b.c", {"a": {"b": {"c": 1}}}, 1),
        ("user.id", {"user.id": 1, "user": {"id": 2}}, 1),
        ("user.id", {"user.id": None, "user": {"id": 2}}, None),
        ("https://x.example/id", {"https://x.example/id": 1}, 1),
        ("id", {}, None),
        ("user.id", {"user": {}}, None),
        ("user.id", {"user": "id"}, None),
        ("user.id", {"user": ["id"]}, None),
        ("user.id", {"user": None}, None),
        ("user.id", {"id": 1}, None),
        ("a.b.c", {"a": {"b.c": 1}}, None),
    ],
)
def test_a_claim_is_found_by_its_exact_name_or_else_by_its_path(
    path: str, payload: Claims, found: object
) -> None:
    assert find_claim(payload, path) == found


def test_the_names_of_the_claims_are_for_the_operator_to_choose() -> None:
    rules = ClaimRules(patient_id_claim="user.number", role_claim="app.roles")
    payload = claims(user={"number": 7}, app={"roles": ["patient", "parent"]})
    principal = admit(rules, payload)
    assert principal.patient_id == "7"
    assert principal.roles == {"patient", "parent"}


# Roles and scopes


@pytest.mark.parametrize(
    ("value", "roles"),
    [
        ("patient", {"patient"}),
        (["patient", "admin"], {"patient", "admin"}),
        (["patient", 1, None, ["admin"], {"admin": 1}], {"patient"}),
        ("patient admin", {"patient admin"}),
        ([], set()),
        (..., set()),
        (None, set()),
        (True, set()),
        (1, set()),
        ({"patient": True}, set()),
        ("\ud800", {"\ud800"}),
    ],
)
def test_a_role_is_a_string_or_a_list_that_holds_it(value: object, roles: set[str]) -> None:
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
        ("", set()),
        ([], set()),
        (None, set()),
        (1, set()),
        ({"voice": 1}, set()),
    ],
)
def test_scopes_are_a_spaced_string_or_a_list(name: str, value: object, scopes: set[str]) -> None:
    assert admit(RULES, claims(**{name: value})).scopes == scopes


def test_scopes_of_all_these_claims_count_together() -> None:
    payload = claims(scope="a", scp="b", scopes=["c"], permissions=["d"])
    assert admit(RULES, payload).scopes == {"a", "b", "c", "d"}


def test_scopes_of_no_other_claim_count() -> None:
    assert admit(RULES, claims(scoped="a", user={"scope": "b"})).scopes == set()


# The token's own id


@pytest.mark.parametrize(
    ("value", "token_id"),
    [
        ('"t1"', "t1"),
        ('""', ""),
        ('"\\ud800"', "\ud800"),
        ('"a\\nb"', "a\nb"),
        ("7", "7"),
        ("-7", "-7"),
        (GOOGOL, GOOGOL),
        ("null", None),
    ],
)
def test_a_token_may_have_an_id_of_any_text_or_a_whole_number(
    value: str, token_id: str | None
) -> None:
    payload = {**claims(), **parsed(f'{{"jti": {value}}}')}
    assert admit(RULES, payload).token_id == token_id


def test_a_token_may_do_without_an_id() -> None:
    assert admit(RULES, claims()).token_id is None


@pytest.mark.parametrize("value", ["true", "false", "1.5", "7.0", "NaN", "1e999", "[]", "{}"])
def test_a_token_id_that_could_not_be_revoked_makes_the_token_invalid(value: str) -> None:
    payload = {**claims(), **parsed(f'{{"jti": {value}}}')}
    assert refused(admit, RULES, payload) == INVALID


# Any claims at all

any_text = st.text(st.characters(exclude_categories=()), max_size=20)
any_number = (
    st.integers(-(10**400), 10**400)
    | st.floats()
    | st.floats(NOW - 100, NOW + 100)
    | st.integers(int(NOW) - 100, int(NOW) + 100)
)
any_json = st.recursive(
    st.none() | st.booleans() | any_number | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
known_names = st.sampled_from(
    ["id", "type", "exp", "nbf", "iat", "jti", "sub", "aud", "iss", "scope", "permissions", "a"]
)
any_claims = st.dictionaries(known_names | any_text, any_json, max_size=8)
any_rules = st.builds(
    ClaimRules,
    patient_id_claim=st.sampled_from(["id", "a.b", "a", ".", ""]),
    role_claim=st.sampled_from(["type", "a.b"]),
    leeway=st.floats(0, 300),
    max_lifetime=st.just(0.0) | st.floats(1, 1e6),
)


@given(rules=any_rules, payload=any_claims)
def test_any_claims_give_a_caller_or_one_of_two_refusals(
    rules: ClaimRules, payload: dict[str, Any]
) -> None:
    principal = outcome(admit, rules, payload)
    assert principal in {INVALID, EXPIRED} or is_usable(principal, rules)


@given(rules=any_rules, exp=st.floats(NOW, NOW + 100), payload=any_claims)
def test_any_claims_with_a_good_exp_are_never_called_expired(
    rules: ClaimRules, exp: float, payload: dict[str, Any]
) -> None:
    payload["exp"] = exp + 1
    principal = outcome(admit, rules, payload)
    assert principal == INVALID or is_usable(principal, rules)


def is_usable(principal: Principal | ErrorCode, rules: ClaimRules) -> bool:
    assert isinstance(principal, Principal)
    assert math.isfinite(principal.expires_at)
    rules.check_dates(principal, NOW)
    assert principal.patient_id is None or PATIENT_ID.fullmatch(principal.patient_id)
    assert principal.token_id is None or isinstance(principal.token_id, str)
    assert all(isinstance(text, str) for text in principal.roles | principal.scopes)
    return not any(" " in scope for scope in principal.scopes)


@given(any_json)
def test_any_value_is_a_plain_id_or_none(value: object) -> None:
    usable = parse_patient_id(value)
    assert usable is None or PATIENT_ID.fullmatch(usable)
    assert usable in (None, value) or isinstance(value, int | float)
