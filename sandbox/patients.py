"""The invented patients, and the assistants that each may talk to."""

from typing import Final

from msgspec import Struct

ENGLISH: Final = "english"
GERMAN: Final = "german"


class Patient(Struct, frozen=True):
    """A patient; `assistants` are names of `VAPI_ASSISTANTS`, the first one is the default."""

    id: str
    name: str
    assistants: tuple[str, ...]


PATIENTS: Final = (
    Patient("pt_1001", "Amara Okafor", (ENGLISH,)),
    Patient("pt_1002", "Jonas Weber", (GERMAN,)),
    Patient("pt_1003", "Mei Tanaka", (ENGLISH, GERMAN)),
)


def assistants_of(patient: str) -> tuple[str, ...]:
    """Return the assistants of a patient; another than the invented ones has the English one."""
    return next((each.assistants for each in PATIENTS if each.id == patient), (ENGLISH,))
