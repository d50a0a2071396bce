"""Event loops for the tests of transports."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run what is marked with `both_event_loops` on asyncio's event loop and on uvloop."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]]
    factories = {"asyncio": asyncio.new_event_loop}
    if item.get_closest_marker("both_event_loops"):
        factories["uvloop"] = uvloop.new_event_loop
    return factories
