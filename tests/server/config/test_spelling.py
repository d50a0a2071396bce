"""Misspelled names: within two edits of a variable, and of at least six characters."""

import pytest

from server.config.settings import VARIABLES
from server.config.sources import find_misspelled, printable


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("JWT_AUDIANCE", "JWT_AUDIENCE"),  # replaced
        ("JWT_AUDIENC", "JWT_AUDIENCE"),  # deleted
        ("JWT_AUDIENCES", "JWT_AUDIENCE"),  # inserted
        ("XJWT_AUDIENCEX", "JWT_AUDIENCE"),  # two inserted
        ("JWT_ADUIENCE", "JWT_AUDIENCE"),  # two neighbours swapped
        ("WT_AUDIENC", "JWT_AUDIENCE"),  # two deleted
        ("JWTAUDIENCE", "JWT_AUDIENCE"),
        ("jwt_audience", "JWT_AUDIENCE"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("VAPI_PUBLIC_KEY", None),
        ("JWT_SECRT_FILE", "JWT_SECRET_FILE"),
        ("JWT_SECRET_FIL", "JWT_SECRET_FILE"),
        ("PROOF_KEYFILE", "PROOF_KEY_FILE"),
        ("JWT_JWKS_URI", "JWT_JWKS_URL"),
        ("CORS_ALLOWED_ORIGIN", "CORS_ALLOWED_ORIGINS"),
        ("JWKS_CACHE_SECOND", "JWKS_CACHE_SECONDS"),
        ("VAPI_KEY", None),
        ("AXX_AUDIENCE", None),
        ("IMPORT", "PORT"),
        ("PORTS", None),  # five characters
        ("HOSTNAME", None),
        ("REDIS_PORT", None),
        ("JWT_ISSUER_FILE", None),  # not a secret
        ("", None),
    ],
)
def test_the_closest_variable_is_suggested(name: str, meant: str | None) -> None:
    expected = [] if meant is None else [f"{name}: unknown; did you mean {meant}?"]
    assert list(find_misspelled([name], VARIABLES)) == expected


def test_known_names_are_not_misspelled() -> None:
    assert list(find_misspelled(VARIABLES, VARIABLES)) == []


def test_the_fewest_edits_win() -> None:
    (warning,) = find_misspelled(["NAME_CX"], {"NAME_AB", "NAME_CD"})
    assert warning == "NAME_CX: unknown; did you mean NAME_CD?"


def test_a_name_is_shown_in_printable_characters() -> None:
    (warning,) = find_misspelled(["JWT_AUDI\x1bNCE"], VARIABLES)
    assert warning == "JWT_AUDI\\x1bNCE: unknown; did you mean JWT_AUDIENCE?"
    assert printable("A\n\udcffé") == "A\\n\\udcff\\xe9"
