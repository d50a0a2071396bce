"""Ending calls: each in a task of its own, tried again until Vapi lists the call as ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final

from server.calls.rules import Classified

log = logging.getLogger(__name__)

OVERDUE_INTERVALS: Final = 5
"""How many intervals after Vapi accepted an end the call may still be listed as in progress."""

TryToEnd = Callable[[Classified], Awaitable[bool | None]]
"""Returns whether Vapi accepted the end of a call, or None when it was not tried."""

OnResult = Callable[[Classified, str, bool], None]
"""Receives a call, the rule that it broke, and whether Vapi accepted its end."""


@dataclass(slots=True)
class _Ending:
    call: Classified
    rules: list[str]
    first_result: bool | None = None
    accepted_at: float | None = None
    is_told: bool = False
    task: asyncio.Task[None] | None = None


class Endings:
    """The calls that are to end. `interval` is in seconds.

    `on_result` is called once for each call and rule, after the first attempt.
    """

    def __init__(self, try_to_end: TryToEnd, on_result: OnResult, interval: float) -> None:
        self._try_to_end = try_to_end
        self._on_result = on_result
        self._interval = interval
        self._endings: dict[str, _Ending] = {}

    @property
    def call_ids(self) -> Collection[str]:
        """The calls that are being ended."""
        return self._endings.keys()

    @property
    def accepted(self) -> list[str]:
        """The calls whose end Vapi has accepted."""
        return [name for name, each in self._endings.items() if each.accepted_at is not None]

    @property
    def unendable(self) -> list[Classified]:
        """The calls that cannot be ended, or are in progress long after Vapi accepted their end."""
        return [each.call for each in self._endings.values() if self._cannot_be_ended(each)]

    def begin(self, call: Classified, rule: str) -> None:
        """End a call because of a rule."""
        ending = self._endings.setdefault(call.call.id, _Ending(call, []))
        if ending.first_result is not None:
            self._on_result(call, rule, ending.first_result)
            return
        ending.rules.append(rule)
        self._start(ending)

    def advance(self, in_progress: Mapping[str, Classified]) -> None:
        """Forget the calls that are not in progress any more, and try the others again."""
        for call_id, ending in list(self._endings.items()):
            if call_id in in_progress:
                ending.call = in_progress[call_id]
                self._tell(ending)
                if ending.accepted_at is None or self._cannot_be_ended(ending):
                    self._start(ending)
            elif ending.task is None:
                del self._endings[call_id]
                if ending.is_told:
                    log.info("call %s, which could not be ended, has ended", call_id)

    def _cannot_be_ended(self, ending: _Ending) -> bool:
        if ending.accepted_at is None:
            return ending.first_result is False
        return monotonic() - ending.accepted_at > OVERDUE_INTERVALS * self._interval

    def _tell(self, ending: _Ending) -> None:
        if self._cannot_be_ended(ending) and not ending.is_told:
            ending.is_told = True
            log.error(
                "call %s cannot be ended (rule %s): it is tried again at each interval",
                ending.call.call.id,
                ", ".join(ending.rules),
            )

    def _start(self, ending: _Ending) -> None:
        if ending.task is None:
            ending.task = asyncio.create_task(self._attempt(ending))

    async def _attempt(self, ending: _Ending) -> None:
        try:
            accepted = await self._try_to_end(ending.call)
        finally:
            ending.task = None
        if accepted is None:
            return
        if accepted and ending.accepted_at is None:
            ending.accepted_at = monotonic()
        if ending.first_result is None:
            ending.first_result = accepted
            for rule in ending.rules:
                self._on_result(ending.call, rule, accepted)
        self._tell(ending)

    async def stop(self) -> None:
        """Cancel all attempts, and forget the calls."""
        tasks = [each.task for each in self._endings.values() if each.task is not None]
        self._endings.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
