"""The windows of time in which the list of calls is read, and how one with too many is split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from middlewares.context import rfc3339
from server.vapi.web_call import PageEntry, UnreadableCall

_LAST_MILLISECOND: Final = 253_402_300_799_000

Range = tuple[int, int]
"""Milliseconds since the epoch, both included."""

_ALWAYS: Final[Range] = (0, _LAST_MILLISECOND)


@dataclass(frozen=True, slots=True)
class Window:
    """The calls that changed and were created in these times."""

    updated: Range
    created: Range = _ALWAYS

    @property
    def is_wide(self) -> bool:
        """Return whether the window can be split."""
        return _is_wide(self.updated) or _is_wide(self.created)

    def query(self, limit: int) -> dict[str, str]:
        """Return the parameters of a request."""
        bounds = {"updatedAtGe": self.updated[0], "updatedAtLe": self.updated[1]}
        if self.created != _ALWAYS:
            bounds |= {"createdAtGe": self.created[0], "createdAtLe": self.created[1]}
        # Half a millisecond more, because the format cuts.
        dates = {name: rfc3339((value + 0.5) / 1000) for name, value in bounds.items()}
        return {"limit": str(limit), **dates}

    def _place(self, call: UnreadableCall) -> Range | None:
        """Return when a call changed and was created, if both are known and in the window."""
        if call.updated is None or call.created is None:
            return None
        is_inside = self.updated[0] <= call.updated <= self.updated[1]
        return (call.updated, call.created) if is_inside else None

    def split(self, page: Sequence[PageEntry]) -> "list[Window]":
        """Return smaller windows, or none for calls of one moment in both times."""
        if _is_wide(self.updated):
            parts = _parts(self.updated, [each.updated for each in page])
            return [replace(self, updated=part) for part in parts]
        if _is_wide(self.created):
            parts = _parts(self.created, [each.created for each in page])
            return [replace(self, created=part) for part in parts]
        return []

    def around(self, call: UnreadableCall) -> "list[Window]":
        """Return the windows around a call, and for those that changed with it, around its
        creation; without its times, smaller windows that have it.
        """
        if (place := self._place(call)) is None:
            return self.split(()) if _is_wide(self.updated) else []
        updated, created = place
        sides = [replace(self, updated=side) for side in _sides(self.updated, updated)]
        tied = [Window(_moment(updated), side) for side in _sides(self.created, created)]
        return sides + tied

    def apart(self, call: UnreadableCall) -> "list[Window]":
        """Return the windows around a call and one of its moment, or none without its times."""
        place = self._place(call)
        if place is None or not self.is_wide:
            return []
        return [*self.around(call), Window(_moment(place[0]), _moment(place[1]))]

    def without(self, call: UnreadableCall) -> "list[Window]":
        """Return the window without the moment in which a call changed."""
        updated = call.updated or 0
        if not self.updated[0] <= updated <= self.updated[1]:
            return [self]
        return [replace(self, updated=side) for side in _sides(self.updated, updated, 2)]


def _is_wide(whole: Range) -> bool:
    return whole[1] - whole[0] > 2


def _moment(time: int) -> Range:
    return time - 1, time + 1


def _parts(whole: Range, times: list[int]) -> list[Range]:
    """Split so that one part has fewer calls than the page, whatever the order of the list is.

    If the list is in order, that part has most of them. Calls of one moment get their own part.
    """
    first, last = whole
    if times and min(times) == max(times) and first < times[0] < last:
        return [*_sides(whole, times[0]), _moment(times[0])]
    middle = sorted(times, reverse=times[0] > times[-1])[len(times) * 7 // 8] if times else 0
    middle = middle if first < middle < last else (first + last) // 2
    return [(first, middle), (middle, last)]


def _sides(whole: Range, cut: int, distance: int = 1) -> list[Range]:
    sides = [(whole[0], cut - distance), (cut + distance, whole[1])]
    return [(first, last) for first, last in sides if first <= last]
