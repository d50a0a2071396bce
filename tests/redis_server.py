"""Moved to `rig.redis_server`; for branches that are not rebased yet."""

from rig.redis_server import *  # noqa: F403
