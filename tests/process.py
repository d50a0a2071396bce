"""Moved to `rig.process`; for branches that are not rebased yet."""

from rig.process import *  # noqa: F403
