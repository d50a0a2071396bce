"""Moved to `rig.issuer`; for branches that are not rebased yet."""

from rig.issuer import *  # noqa: F403
