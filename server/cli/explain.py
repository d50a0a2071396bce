"""`python -m server check --token -`: explains why a patient token is accepted or rejected."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from time import time
from typing import Final

from aiohttp import hdrs

from middlewares.authentication import bearer_token, wrong_scheme
from middlewares.authorization import check_patient_id, check_role, check_scope
from middlewares.context import Principal
from middlewares.errors import ApiError, ErrorCode
from server.app import PATH, PREFIX
from server.auth.aiohttp_jwt_adapter import verify_token
from server.auth.claims import ClaimRules, Claims, read_token_id
from server.auth.dpop import make_proof_verifier
from server.auth.keys import KeyProvider
from server.auth.tokens import (
    Header,
    Verify,
    base64url_decode,
    check_audience,
    check_issuer,
    check_type,
    read_claims,
    read_header,
)
from server.cli.report import Finding, list_names
from server.components import Components
from server.config import Settings
from server.config.keys import HMAC_ALGORITHMS
from server.config.settings import ROLE_OFF, CallMonitorMode, DpopMode
from server.policies.consent import make_consent_check
from server.policies.revocations import RevocationList
from server.vapi.assistants import make_assistant_choice


class NotCheckedError(Exception):
    """A rule is not checked; the message has the reason."""


@dataclass(frozen=True, slots=True)
class CheckedToken:
    """A token, and what the service checks it against; `now` is in seconds since the epoch.

    `proof` is the DPoP proof of a request with the token, if there is one. `keys` must check
    signatures only: issuer and audience are separate rules here. `is_revoked` returns None when
    that is unknown; it is None without a revocation list.
    """

    token: str
    proof: str | None
    settings: Settings
    keys: KeyProvider
    rules: ClaimRules
    is_revoked: Callable[[Principal], Awaitable[bool | None]] | None
    now: float

    def compact(self) -> str:
        """Return the token. Raises `NotCheckedError` when it is not a compact JWS."""
        try:
            return bearer_token([f"Bearer {self.token}"])
        except ApiError:
            raise NotCheckedError("the token is not a compact JWS") from None

    def claims(self) -> Claims:
        """Return the claims, which may be unverified. Raises `NotCheckedError` without claims."""
        payload = self.compact().split(".")[1]
        try:
            return read_claims(base64url_decode(payload.encode()))
        except (ApiError, ValueError):
            raise NotCheckedError("the claims cannot be read") from None

    def principal(self, token_id: str | None = None) -> Principal:
        """Return the principal without dates, which have a rule of their own."""
        return self.rules.describe(self.claims(), token_id, 0, 0)

    def header(self) -> Header:
        """Return the header. Raises `NotCheckedError` when it is not accepted."""
        try:
            return read_header(self.compact().partition(".")[0])
        except ApiError:
            raise NotCheckedError("the header is not accepted") from None

    async def verify(self) -> Verify:
        """Return what verifies the token, by its header. Raises `ApiError` without a key."""
        header = self.header()
        return await self.keys.find(header.algorithm, header.key_id)

    def key_source(self) -> str:
        """Return the variable of the keys that the token may be verified with."""
        names = ("JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS_URL")
        given = [name for name in names if getattr(self.settings, name.lower())]
        is_hmac = self.header().algorithm in HMAC_ALGORITHMS
        return given[0] if is_hmac else given[-1]


Check = Callable[[CheckedToken], Awaitable[str]]
"""Returns why a rule is met. Raises `ApiError` when it is broken, or `NotCheckedError`."""


async def _check_format(checked: CheckedToken) -> str:
    read_header(bearer_token([f"Bearer {checked.token}"]).partition(".")[0])
    return "a compact JWS with an accepted header"


async def _check_typ(checked: CheckedToken) -> str:
    check_type(checked.header(), checked.settings.jwt_required_type)
    return "typ is that of an access token"


async def _check_required(checked: CheckedToken) -> str:
    claims = checked.claims()
    if not checked.rules.required:
        raise NotCheckedError("JWT_REQUIRED_CLAIMS is not set")
    checked.rules.check_required(claims)
    return "JWT_REQUIRED_CLAIMS have required values"


async def _check_key(checked: CheckedToken) -> str:
    public = [each for each in checked.settings.jwt_algorithms if each not in HMAC_ALGORITHMS]
    with suppress(ApiError):  # wait for the keys: they tell why the token's key is not used
        await checked.keys.find(public[0] if public else "", checked.header().key_id)
    await checked.verify()
    return "there is a key for its alg and kid"


async def _check_signature(checked: CheckedToken) -> str:
    try:
        verify = await checked.verify()
    except ApiError:
        raise NotCheckedError("there is no key") from None
    verify_token(checked.compact(), verify)
    return "verifies"


async def _check_iss(checked: CheckedToken) -> str:
    claims, issuers = checked.claims(), frozenset(checked.settings.jwt_issuer)
    if not issuers:
        raise NotCheckedError("JWT_ISSUER is not set")
    check_issuer(claims, issuers)
    return "iss is JWT_ISSUER" if len(issuers) == 1 else "iss is one of JWT_ISSUER"


async def _check_aud(checked: CheckedToken) -> str:
    claims, audiences = checked.claims(), frozenset(checked.settings.jwt_audience)
    if not audiences:
        raise NotCheckedError("JWT_AUDIENCE is not set")
    check_audience(claims, audiences)
    return "aud has one of JWT_AUDIENCE"


async def _check_dates(checked: CheckedToken) -> str:
    claims = checked.claims()
    dates = checked.rules.read_dates(claims)
    checked.rules.check_dates(checked.rules.describe(claims, None, *dates), checked.now)
    return "exp, nbf and iat are valid now"


async def _check_patient(checked: CheckedToken) -> str:
    name = checked.settings.jwt_patient_id_claim
    check_patient_id(checked.principal(), name)
    return f"{name} has a usable patient id"


async def _check_patient_role(checked: CheckedToken) -> str:
    if checked.settings.jwt_role_claim == ROLE_OFF:
        raise NotCheckedError("JWT_ROLE_CLAIM is off, so every user of the issuer is a patient")
    check_role(checked.principal(), checked.settings.jwt_patient_role)
    return f"{checked.settings.jwt_role_claim} has JWT_PATIENT_ROLE"


async def _check_required_scope(checked: CheckedToken) -> str:
    principal, required = checked.principal(), checked.settings.jwt_required_scope
    if not required:
        raise NotCheckedError("JWT_REQUIRED_SCOPE is not set")
    check_scope(principal, frozenset(required.split()))
    return "JWT_REQUIRED_SCOPE is granted"


async def _check_not_revoked(checked: CheckedToken) -> str:
    token_id = read_token_id(checked.claims())
    if checked.is_revoked is None:
        raise NotCheckedError("REDIS_URL is not set, so nothing can be revoked")
    revoked = await checked.is_revoked(checked.principal(token_id))
    if revoked is None:
        raise NotCheckedError("Redis is not available, and REDIS_FAILURE is serve")
    if revoked:
        raise ApiError(ErrorCode.AUTH_TOKEN_REVOKED, "The token or the patient was revoked")
    return "neither its jti nor the patient is revoked"


async def _check_grants(checked: CheckedToken) -> str:
    settings, principal = checked.settings, checked.principal()
    choose_assistant = make_assistant_choice(settings)
    if settings.vapi_assistant_claim and choose_assistant:
        choose_assistant({}, principal)
    check_consent = make_consent_check(settings.consent_required, in_token=True)
    if settings.jwt_consent_claim and check_consent:
        check_consent({}, principal)
    return "it grants an assistant, and has the consents, as far as they are set"


async def _check_dpop(checked: CheckedToken) -> str:
    mode, key_thumbprint = checked.settings.jwt_dpop, checked.principal().key_thumbprint
    if mode == DpopMode.OFF:
        raise NotCheckedError("JWT_DPOP is off")
    if key_thumbprint is None:
        if mode == DpopMode.ACCEPT and checked.proof is None:
            return "the token is not bound to a key (cnf.jkt), so it needs no proof"
        raise wrong_scheme("The token is not bound to a key: it has no cnf.jkt")
    if checked.proof is None:
        raise NotCheckedError("give the proof of a request with --dpop FILE")
    verify = make_proof_verifier(checked.settings.public_url, lambda: checked.now)
    verify(
        checked.proof,
        method=hdrs.METH_POST,
        path=PREFIX + PATH,
        token=checked.compact(),
        key_thumbprint=key_thumbprint,
    )
    return "the proof is valid for POST at PUBLIC_URL, and for this token and its key"


Rule = tuple[str, Check, str]
"""The name of a rule, its check, and what to do when it is broken."""

RULES: Final[tuple[Rule, ...]] = (
    ("format", _check_format, "give the whole token: three segments with dots between them"),
    ("type", _check_typ, "send the access token, and compare its typ with JWT_REQUIRED_TYPE"),
    ("key found", _check_key, "compare its alg with JWT_ALGORITHMS, its kid with {source}"),
    ("signature", _check_signature, "it was changed, or signed with a key that is not in {source}"),
    ("issuer", _check_iss, "compare its iss with JWT_ISSUER, also the slash at the end"),
    ("audience", _check_aud, "compare its aud with JWT_AUDIENCE"),
    ("claims", _check_required, "compare it with JWT_REQUIRED_CLAIMS; its claims: {names}"),
    ("dates", _check_dates, "compare exp, nbf and iat with JWT_MAX_LIFETIME_SECONDS and the clock"),
    ("patient id", _check_patient, "set JWT_PATIENT_ID_CLAIM to one of its claims: {names}"),
    ("role", _check_patient_role, "{role} must have JWT_PATIENT_ROLE; its claims: {names}"),
    ("scope", _check_required_scope, "scope, scp, scopes and permissions count; it has: {names}"),
    ("revocation", _check_not_revoked, "see `python -m server revoke`, and check REDIS_URL"),
)
GRANTS_RULE: Final[Rule] = ("grants", _check_grants, "compare it with its claims: {names}")
"""With `VAPI_ASSISTANT_CLAIM` or `JWT_CONSENT_CLAIM` only."""
DPOP_RULE: Final[Rule] = (
    "dpop",
    _check_dpop,
    "compare htm, htu, ath and iat with the request, PUBLIC_URL, the token and the clock",
)
"""It is checked last, with JWT_DPOP or a proof only."""


async def explain(settings: Settings, token: str, proof: str | None = None) -> list[Finding]:
    """Return a finding for each rule, in a fixed order; fetches the keys and asks Redis.

    Rules after a broken one are checked too, if the token can be read that far. The details
    contain escaped names of claims, and none of their values.
    """
    signatures_only = replace(settings, jwt_issuer=(), jwt_audience=(), sessions_paused=False)
    idle = replace(signatures_only, vapi_check_seconds=0.0, call_monitor=CallMonitorMode.OFF)
    components = Components(idle)
    revocations = components.revocations
    async with components.running():
        checked = CheckedToken(
            token=token,
            proof=proof,
            settings=settings,
            keys=components.keys,
            rules=components.rules,
            is_revoked=partial(_is_revoked, components, revocations) if revocations else None,
            now=time(),
        )
        grants = bool(settings.vapi_assistant_claim or settings.jwt_consent_claim)
        proofs = settings.jwt_dpop != DpopMode.OFF or proof is not None
        rules = [*RULES, *[GRANTS_RULE] * grants, *[DPOP_RULE] * proofs]
        return [await _finding(checked, *rule) for rule in rules]


async def _is_revoked(
    components: Components, revocations: RevocationList, principal: Principal
) -> bool | None:
    """Return whether a principal is revoked, or None while Redis is not available."""
    revoked = await revocations.is_revoked(principal)
    return revoked if components.states()["redis"] == "up" else None


async def _finding(checked: CheckedToken, name: str, check: Check, advice: str) -> Finding:
    try:
        return Finding(name, True, await check(checked))
    except NotCheckedError as reason:
        return Finding(name, None, f"not checked: {reason}")
    except ApiError as error:
        hint = advice.format(
            names=list_names(checked.claims()) if "{names}" in advice else "",
            source=checked.key_source() if "{source}" in advice else "",
            role=checked.settings.jwt_role_claim,
        )
        return Finding(name, False, f"{error.code}: {error.details}; {hint}")
