"""From a token to the caller it proves: its header, the key, the signature, the claims."""

from base64 import urlsafe_b64decode
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

import msgspec

from middlewares.authentication import Verify
from middlewares.claims import ClaimRules, invalid
from middlewares.clock import Clock
from middlewares.context import Principal
from middlewares.decoder import Decoder
from server.keys import Keys

MAX_REMEMBERED = 8192
"""So many verified tokens are remembered; past that the one verified longest ago is forgotten."""

MAX_REMEMBERED_LENGTH = 2048
"""A longer token is verified each time: what it tells of its caller may take much memory."""


class Header(NamedTuple):
    """What matters of a JOSE header (RFC 7515 section 4.1)."""

    algorithm: str
    key_id: str | None


class Verified(NamedTuple):
    """A caller whose token a decoder has verified."""

    decode: Decoder
    principal: Principal


def make_verifier(keys: Keys, rules: ClaimRules, clock: Clock) -> Verify:
    """Make what `authentication` checks tokens with.

    A token that was verified is not verified again while the key that it was verified with is
    still in use. Its time is looked at on each request; all else that may change meanwhile
    (revocation, role, scope, limit) is the business of other links.
    """
    remembered: dict[bytes, Verified] = {}

    async def verify(token: str) -> Principal:
        header = read_header(token.partition(".")[0])
        decode = await keys.decoder(header.algorithm, header.key_id)
        digest = sha256(token.encode()).digest()
        known = remembered.get(digest)
        if known is None or known.decode is not decode:
            known = Verified(decode, rules.read(await decode(token)))
            remembered.pop(digest, None)
            if len(token) <= MAX_REMEMBERED_LENGTH:
                remembered[digest] = known
            if len(remembered) > MAX_REMEMBERED:
                del remembered[next(iter(remembered))]
        rules.check(known.principal, clock())
        return known.principal

    return verify


@lru_cache(maxsize=256)
def read_header(segment: str) -> Header:
    """Read the first segment of a token.

    Raises `ApiError` AUTH_TOKEN_INVALID for one that is no JSON object, names no algorithm, has a
    `kid` that is no string, or demands an extension (`crit`, `b64`): none is understood here.
    """
    try:
        header = msgspec.json.decode(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (ValueError, RecursionError):
        raise invalid("The token's header is not JSON") from None
    if not isinstance(header, dict):
        raise invalid("The token's header is not a JSON object")
    if "crit" in header or "b64" in header:
        raise invalid("The token's header demands an extension (crit or b64)")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise invalid("The token's header names no algorithm")
    if key_id is not None and not isinstance(key_id, str):
        raise invalid("The token's header has a kid that is no string")
    return Header(algorithm, key_id)
