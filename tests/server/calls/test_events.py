"""The documented queries of the events, run as they are written."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from time import time
from typing import Any

import pytest

from middlewares.context import rfc3339

MANUAL = Path(__file__).parents[3] / "docs" / "operations.md"
LINES: list[Any] = [
    {"event": "vapi_session_start", "patient": "pt_1"},
    {"event": "vapi_call_ended", "call_id": "1", "patient": "pt_1", "seconds": 61.0},
    {"event": "vapi_call_ended", "call_id": "2", "patient": "pt_1", "seconds": 58.0},
    {"event": "vapi_call_ended", "call_id": "1", "patient": "pt_1", "seconds": 61.0},
    {"event": "vapi_call_ended", "call_id": "3", "patient": None, "seconds": 5.5},
    *[
        {
            "event": "vapi_call_flagged",
            "call_id": call_id,
            "patient": "pt_1",
            "rule": rule,
            "action": action,
            "overrides": overrides,
        }
        for call_id, rule, action, overrides in (
            ("1", "altered", "none", ["model", "firstMessage"]),
            ("1", "altered", "none", ["model", "firstMessage"]),
            ("2", "reused", "none", None),
            ("3", "unknown", "none", None),
            ("4", "active", "ended", None),
        )
    ],
]


@pytest.mark.skipif(shutil.which("jq") is None, reason="Debian: apt install jq")
@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (
            "what `enforce` would have ended",
            "1\taltered\tpt_1\tmodel firstMessage\n3\tunknown\tpt_1\t\n",
        ),
        ("The minutes of each patient", "unknown\t1\npt_1\t2\n"),
    ],
)
def test_documented_query(tmp_path: Path, after: str, expected: str) -> None:
    text = MANUAL.read_text("utf-8").partition(after)[2]
    (command,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[:1]
    old = [{**line, "call_id": "old", "timestamp": rfc3339(time() - 8 * 86400)} for line in LINES]
    lines = [*old, *({**line, "timestamp": rfc3339(time() - 86400)} for line in LINES)]
    (tmp_path / "audit.log").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == expected
