"""Ending calls: attempts, and what is told of them."""

import asyncio

from server.calls.endings import Endings
from server.calls.rules import Classified
from tests.server.calls.test_rules import call


class Attempts:
    """Answers attempts to end calls with these results; `told` are the results of rules."""

    def __init__(self, *results: bool | None) -> None:
        self.results = list(results)
        self.told: list[tuple[str, bool]] = []
        self.endings = Endings(self._try_to_end, self._record, 10)

    async def _try_to_end(self, _: Classified) -> bool | None:
        return self.results.pop(0)

    def _record(self, _: Classified, rule: str, accepted: bool) -> None:  # noqa: FBT001
        self.told.append((rule, accepted))


ONE = call("1", 60, None)


async def test_rules_share_an_attempt() -> None:
    attempts = Attempts(True)
    for rule in ("altered", "revoked"):
        attempts.endings.begin(ONE, rule)
    await asyncio.sleep(0)
    assert attempts.told == [("altered", True), ("revoked", True)]
    attempts.endings.begin(ONE, "active")
    assert attempts.told[2:] == [("active", True)]
    attempts.endings.advance({"1": ONE})
    assert attempts.endings.accepted == ["1"]
    attempts.endings.advance({})
    assert list(attempts.endings.call_ids) == []


async def test_attempt_that_failed_is_repeated() -> None:
    attempts = Attempts(None, False, True, False)
    attempts.endings.begin(ONE, "altered")
    await asyncio.sleep(0)
    assert attempts.told == []  # not tried: the lease was lost
    assert attempts.endings.unendable == []
    for unendable in ([ONE], []):
        attempts.endings.advance({"1": ONE})
        await asyncio.sleep(0)
        assert attempts.told == [("altered", False)]
        assert attempts.endings.unendable == unendable


async def test_stop_cancels_attempts() -> None:
    attempts = Attempts(True)
    attempts.endings.begin(ONE, "altered")
    attempts.endings.advance({})
    await attempts.endings.stop()
    assert attempts.results == [True]
