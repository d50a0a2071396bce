"""Moved to `rig.tcp_proxy`; for branches that are not rebased yet."""

from rig.tcp_proxy import *  # noqa: F403
