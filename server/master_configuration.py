"""The configuration of gunicorn's master, which its workers inherit, and what a reload may change.

A file that is half written must not switch a protection off.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

from server.admin_actions import ActionChannel, AdminRecord, admin_record
from server.config import Settings
from server.config.checks import check_processes
from server.config.loader import (
    EX_CONFIG,
    Configuration,
    SettingsError,
    exit_for_faults,
    load_configuration,
    load_or_exit,
)
from server.config.sources import printable

log = logging.getLogger(__name__)

WORKER_BOOT_ERROR: Final = 3
"""gunicorn's `Arbiter.WORKER_BOOT_ERROR`: the exit status of a worker that also ends the master."""


class MasterConfiguration:
    """The last valid configuration of this process and of the process that forked it.

    One worker gets each record of `actions` for the audit log; None where gunicorn has no master.
    """

    def __init__(self) -> None:
        self.actions: ActionChannel | None = None
        self._current: Configuration | None = None
        self._processes = 1

    def get(self, status: int = EX_CONFIG) -> Configuration:
        """Return the configuration; load it the first time, or exit with `status` on a fault."""
        if self._current is None:
            self._current = load_or_exit(status)
        return self._current

    def prepare_for(self, processes: int) -> None:
        """Prepare for this number of workers; exit when the configuration does not permit it."""
        self._processes = processes
        self.actions = ActionChannel()
        if processes > 1 and (lines := self._faults_of_processes(self.get().settings)):
            exit_for_faults(lines, EX_CONFIG)

    def _faults_of_processes(self, settings: Settings) -> list[str]:
        return [f"{name}: {text}" for name, text in check_processes(settings, self._processes)]

    def reload(self) -> bool:
        """Load the configuration again, and log the names of the settings that changed.

        On a fault, or when the files may have been cut off, log all reasons, keep the last valid
        configuration, and return False.
        """
        last = self.get()
        try:
            new = load_configuration()
        except SettingsError as error:
            return self._refuse("invalid configuration", [*error.faults, *error.warnings])
        if faults := self._faults_of_processes(new.settings):
            return self._refuse("invalid configuration", faults)
        if refusals := list(find_refusals(last, new)):
            return self._refuse("reload refused", refusals)
        self._tell_changes(last.settings, new.settings)
        self._current = new
        return True

    def _refuse(self, reason: str, lines: Iterable[str]) -> bool:
        for line in lines:
            log.error("%s, the last valid configuration stays in use: %s", reason, line)
        self._send(admin_record("reload_refused"))
        return False

    def _tell_changes(self, last: Settings, new: Settings) -> None:
        changed = find_changed(last, new)
        log.info("configuration reloaded; changed: %s", ", ".join(changed) or "nothing")
        for name in find_weakened(last, new):
            log.warning("%s: this reload makes it weaker than before", name)
        if changed:
            self._send(admin_record("reload", changed=changed))

    def _send(self, record: AdminRecord) -> None:
        if self.actions is not None:
            self.actions.send(record)


MASTER: Final = MasterConfiguration()
"""State of the process, because gunicorn executes its configuration file again at each reload and
calls `app_factory` without arguments."""


_EMPTY_IS_WEAKER: Final = (
    "REDIS_URL",
    "JWT_ISSUER",
    "JWT_AUDIENCE",
    "JWT_REQUIRED_CLAIMS",
    "JWT_REQUIRED_TYPE",
    "JWT_REQUIRED_SCOPE",
    "VAPI_ALLOWED_ORIGINS",
    "PROOF_KEY",
    "CONSENT_REQUIRED",
    "JWT_CONSENT_CLAIM",
    "VAPI_ASSISTANT_CLAIM",
    "CALL_LIMITS",
)


def _by_order(*words: str) -> Callable[[Any], int]:
    """Return the strength of a word: its place among `words`, weakest first, or above them all."""
    return lambda value: words.index(value) if value in words else len(words)


_STRENGTH: Final[Mapping[str, Callable[[Any], int]]] = {
    "RATE_LIMIT": _by_order("off"),
    "JWT_ROLE_CLAIM": _by_order("off"),
    "CALL_MONITOR": _by_order("off", "report"),
    "JWT_DPOP": _by_order("off", "accept"),
    "VAPI_CREDENTIAL": _by_order("public_key"),
    "SESSIONS_PAUSED": bool,
    "JWT_MAX_LIFETIME_SECONDS": bool,
    **dict.fromkeys(_EMPTY_IS_WEAKER, bool),
}
"""How strong a value of each setting protects; a lower number is weaker."""


def find_refusals(last: Configuration, new: Configuration) -> Iterator[str]:
    """Yield the reasons, by name and without values, why `new` must not replace `last`."""
    if not new.sources.ends_with_line_break:
        yield ".env: does not end with a line break; it may have been cut off"
    for name in sorted(last.sources.file_names - new.sources.file_names):
        yield f"{printable(name)}: is missing in .env; write {printable(name)}= to drop it"
    yield from _check_hash_key(last.settings, new.settings)


def _check_hash_key(last: Settings, new: Settings) -> Iterator[str]:
    """Without the previous key, revocations under its hashes would no longer be found."""
    if last.audit_hash_key not in (b"", new.audit_hash_key, new.audit_hash_key_previous):
        yield "AUDIT_HASH_KEY: changed; set AUDIT_HASH_KEY_PREVIOUS to the present key too"


def find_changed(last: Settings, new: Settings) -> list[str]:
    """Return the names of the settings that differ."""
    names = [item.name for item in fields(last)]
    return [each.upper() for each in names if getattr(last, each) != getattr(new, each)]


def find_weakened(last: Settings, new: Settings) -> list[str]:
    """Return the names of the settings that protect less than before."""
    return [
        name
        for name in find_changed(last, new)
        if (strength := _STRENGTH.get(name))
        and strength(getattr(new, name.lower())) < strength(getattr(last, name.lower()))
    ]
