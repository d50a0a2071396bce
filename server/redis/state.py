"""The state of Redis, as the service knows it."""

from enum import StrEnum


class RedisState(StrEnum):
    """The state of Redis: `unknown` before the first verdict; `rejected` if our credentials are."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    REJECTED = "rejected"
