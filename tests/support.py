"""Moved to `rig.service`; for branches that are not rebased yet."""

from rig.service import *  # noqa: F403
