"""Moved to `rig.wire` and `rig.vapi`; for branches that are not rebased yet."""

from rig.vapi import *  # noqa: F403
from rig.wire import *  # noqa: F403
