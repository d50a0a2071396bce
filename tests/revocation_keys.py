"""The keys that a revocation has in Redis, as the service writes them."""

from server.policies.revocations import CLEAR_NAMES, KEY_PREFIX, token_entry


def token_key(token_id: str) -> bytes:
    """Return the key of a token by its `jti`, which can contain any text of a JSON string."""
    return KEY_PREFIX + token_entry(token_id)


def patient_key(patient_id: str) -> bytes:
    """Return the key of a patient, with the id in clear."""
    return KEY_PREFIX + CLEAR_NAMES.current(patient_id)
