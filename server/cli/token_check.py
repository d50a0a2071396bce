"""`python -m server check --token -`: explains why a patient token is accepted or rejected."""

import re
import sys
from dataclasses import replace
from functools import partial
from time import time
from typing import Final

from middlewares.api_errors import ApiError
from middlewares.request_context import Principal
from middlewares.revocation import IsRevoked
from server.cli.checked_token import CheckedToken, NotCheckedError
from server.cli.report import Finding
from server.cli.token_rules import RULES, Check
from server.components import Components
from server.config import Settings

_MAX_INPUT_BYTES: Final = 65536
_PREFIX: Final = re.compile(r"(authorization:)?\s*bearer\s+", re.IGNORECASE)
_MAX_NAMES: Final = 20
_MAX_NAME_LENGTH: Final = 40


def read_token() -> str:
    """Read a token from standard input, without white space around it and without `Bearer`.

    Reads at most 64 KiB, which is more than the service accepts.
    """
    text = sys.stdin.buffer.read(_MAX_INPUT_BYTES).decode("ascii", "replace")
    return _PREFIX.sub("", text.strip(), count=1)


async def explain(settings: Settings, token: str) -> list[Finding]:
    """Return a finding for each rule, in a fixed order; fetches the keys and asks Redis.

    Rules after a broken one are checked too, if the token can be read that far. The details
    contain escaped names of claims, and none of their values.
    """
    signatures_only = replace(settings, jwt_issuer="", jwt_audience=(), vapi_check_seconds=0.0)
    components = Components(signatures_only)
    look_up = components.is_revoked
    async with components.running():
        checked = CheckedToken(
            token=token,
            settings=settings,
            keys=components.keys,
            rules=components.rules,
            is_revoked=look_up and partial(_is_revoked, components, look_up),
            now=time(),
        )
        return [await _finding(checked, *rule) for rule in RULES]


async def _is_revoked(
    components: Components, look_up: IsRevoked, principal: Principal
) -> bool | None:
    """Return whether a principal is revoked, or None while Redis is not available."""
    revoked = await look_up(principal)
    return revoked if components.states()["redis"] == "up" else None


async def _finding(checked: CheckedToken, name: str, check: Check, advice: str) -> Finding:
    try:
        return Finding(name, True, await check(checked))
    except NotCheckedError as reason:
        return Finding(name, None, f"not checked: {reason}")
    except ApiError as error:
        hint = advice.format(
            names=_claim_names(checked) if "{names}" in advice else "",
            source=_key_source(checked.settings),
            role=checked.settings.jwt_role_claim,
        )
        return Finding(name, False, f"{error.code}: {error.details}; {hint}")


def _claim_names(checked: CheckedToken) -> str:
    """Return the names of the token's claims, fit for a terminal."""
    names = sorted(checked.claims())
    shown = [name[:_MAX_NAME_LENGTH].encode("unicode_escape").decode() for name in names]
    return ", ".join(shown[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")


def _key_source(settings: Settings) -> str:
    names = ("JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS_URL")
    return next(name for name in names if getattr(settings, name.lower()))
