"""From a token to the caller it proves: its header, the key, the signature, the claims."""

from collections import OrderedDict
from hashlib import sha256

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


class _Memory:
    """Whom verified tokens prove, by the SHA-256 of each, while the keys that did are in use."""

    def __init__(self) -> None:
        self._callers: OrderedDict[bytes, Principal] = OrderedDict()
        self._keys: object = None

    def find(self, digest: bytes, keys: object) -> Principal | None:
        """Give the caller, if the keys are still the same."""
        return self._callers.get(digest) if keys is self._keys else None

    def keep(self, digest: bytes, caller: Principal, keys: object) -> None:
        """Keep a caller; whoever other keys proved is forgotten."""
        if keys is not self._keys:
            self._callers.clear()
            self._keys = keys
        self._callers[digest] = caller
        if len(self._callers) > MAX_REMEMBERED:
            self._callers.popitem(last=False)


def make_verifier(keys: Keys, rules: ClaimRules, clock: Clock) -> Verify:
    """Make what `authentication` checks tokens with.

    A token that was verified is not verified again while the keys that were in use then still are.
    Its time is looked at on each request; all else that may change meanwhile (revocation, role,
    scope, limit) is the business of other links.
    """
    memory = _Memory()

    async def prove(token: str, digest: bytes) -> Principal:
        header = read_header(token.partition(".")[0])
        decode = await keys.decoder(header.algorithm, header.key_id)
        in_use = keys.in_use  # nothing waits between these two, so they belong together
        caller = rules.read(await decode(token))
        if in_use is not None and len(token) <= MAX_REMEMBERED_LENGTH:
            memory.keep(digest, caller, in_use)
        return caller

    async def verify(token: str) -> Principal:
        digest = sha256(token.encode()).digest()
        caller = memory.find(digest, keys.in_use) or await prove(token, digest)
        rules.check(caller, clock())
        return caller

    return verify
