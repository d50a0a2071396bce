"""From a token to the caller it proves: its header, the key, the signature, the claims."""

from collections import OrderedDict
from hashlib import sha256
from typing import NamedTuple

from middlewares.authentication import Verify
from middlewares.claims import ClaimRules
from middlewares.clock import Clock
from middlewares.context import Principal
from middlewares.jws import read_header
from server.keys import Keys

MAX_REMEMBERED = 8192
"""So many verified tokens are remembered; past that the one verified longest ago is forgotten."""

MAX_REMEMBERED_LENGTH = 2048
"""A longer token is verified each time: what it tells of its caller may take much memory."""


class Verified(NamedTuple):
    """A caller whose token was verified, and the keys that were in use then."""

    keys: object
    principal: Principal


def make_verifier(keys: Keys, rules: ClaimRules, clock: Clock) -> Verify:
    """Make what `authentication` checks tokens with.

    A token that was verified is not verified again while the keys that were in use then still are.
    Its time is looked at on each request; all else that may change meanwhile (revocation, role,
    scope, limit) is the business of other links.
    """
    remembered: OrderedDict[bytes, Verified] = OrderedDict()

    async def prove(token: str) -> Verified:
        header = read_header(token.partition(".")[0])
        decode = await keys.decoder(header.algorithm, header.key_id)
        in_use = keys.in_use
        return Verified(in_use, rules.read(await decode(token)))

    async def verify(token: str) -> Principal:
        digest = sha256(token.encode()).digest()
        known = remembered.get(digest)
        if known is None or known.keys is not keys.in_use:
            known = await prove(token)
            remembered.pop(digest, None)
            if len(token) <= MAX_REMEMBERED_LENGTH and known.keys is not None:
                remembered[digest] = known
            if len(remembered) > MAX_REMEMBERED:
                remembered.popitem(last=False)
        rules.check(known.principal, clock())
        return known.principal

    return verify
