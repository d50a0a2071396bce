"""The names of patients in the keys of Redis: the HMAC of the id with `AUDIT_HASH_KEY`."""

import hmac
from dataclasses import dataclass
from typing import Final

from server.config import Settings


@dataclass(frozen=True, slots=True)
class PatientNames:
    """The forms in which a patient id can stand in a key.

    New keys have the first. Lookups name all of them, so that what was written before
    `hash_key` was set or replaced still counts.
    """

    hash_key: bytes = b""
    previous_hash_key: bytes = b""

    def current(self, patient_id: str) -> bytes:
        """Return the form that is written."""
        return self.all(patient_id)[0]

    def all(self, patient_id: str) -> list[bytes]:
        """Return all forms, that of new keys first."""
        clear = b"patient:" + patient_id.encode()
        hashed = [
            _hashed(key, patient_id) for key in (self.hash_key, self.previous_hash_key) if key
        ]
        return [*hashed, clear] if self.hash_key else [clear, *hashed]


def make_patient_names(settings: Settings) -> PatientNames:
    """Return the names that the settings describe."""
    return PatientNames(settings.audit_hash_key, settings.audit_hash_key_previous)


CLEAR_NAMES: Final = PatientNames()
"""Ids stand in keys as they are."""


def _hashed(key: bytes, patient_id: str) -> bytes:
    return b"patient-hmac:" + hmac.digest(key, patient_id.encode(), "sha256").hex().encode()
