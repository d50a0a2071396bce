"""The files of docs/tools, imported from there as a tool server imports its copies."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "docs" / "tools"))

from vapi_webhook import (
    ProofKeys,
    UsedProofs,
    authenticate_hmac,
    is_too_large,
    is_tool_calls,
    read_tool_calls,
    refuse_replay,
)
from verify_patient import ProofError

__all__ = [
    "ProofError",
    "ProofKeys",
    "UsedProofs",
    "authenticate_hmac",
    "is_too_large",
    "is_tool_calls",
    "read_tool_calls",
    "refuse_replay",
]
