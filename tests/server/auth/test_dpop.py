"""Proofs: the example of RFC 9449, and the normalization of addresses (RFC 3986)."""

import pytest

from middlewares.errors import ApiError
from server.auth.dpop import make_proof_verifier, normalize

# RFC 9449 sections 6.1 and 7.1.
TOKEN = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
PROOF = (
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNo"
    "UklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERW"
    "clUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR"
    "1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCw"
    "iYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-E"
    "y71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
)
ISSUED_AT = 1562262618


def verify(
    token: str = TOKEN, thumbprint: str = THUMBPRINT, method: str = "GET", now: float = ISSUED_AT
) -> str:
    check = make_proof_verifier(["https://resource.example.org"], lambda: now)
    path = "/protectedresource"
    return check(PROOF, method=method, path=path, token=token, key_thumbprint=thumbprint)


@pytest.mark.parametrize("now", [ISSUED_AT - 60, ISSUED_AT, ISSUED_AT + 60])
def test_the_example_of_the_rfc(now: float) -> None:
    assert verify(now=now) == "e1j3V_bKic8-LAEB"


@pytest.mark.parametrize(
    "change",
    [
        {"token": TOKEN + "x"},
        {"thumbprint": THUMBPRINT[::-1]},
        {"thumbprint": ""},
        {"method": "POST"},
        {"now": ISSUED_AT - 60.1},
        {"now": ISSUED_AT + 60.1},
    ],
)
def test_the_example_does_not_prove_anything_else(change: dict[str, str]) -> None:
    with pytest.raises(ApiError):
        verify(**change)  # type: ignore[arg-type]  # each value is of its type


@pytest.mark.parametrize(
    ("url", "normalized"),
    [
        ("HTTPS://Example.COM", "https://example.com/"),
        ("https://example.com:443/", "https://example.com/"),
        ("http://127.0.0.1:80/a", "http://127.0.0.1/a"),
        ("https://example.com:80/a", "https://example.com:80/a"),
        ("https://example.com:/a", "https://example.com/a"),
        ("https://[2001:DB8::1]:443/a", "https://[2001:db8::1]/a"),
        ("https://e%78ample.com/", "https://example.com/"),
        ("https://%c3%a9.example/", "https://%C3%A9.example/"),
        ("https://e.x/%7ea/%2f/%C3%a9", "https://e.x/~a/%2F/%C3%A9"),
        ("https://e.x/a/./b/../c", "https://e.x/a/c"),
        ("https://e.x/a/%2e%2E/c", "https://e.x/c"),
        ("https://e.x/../../a", "https://e.x/a"),
        ("https://e.x/a/..", "https://e.x/"),
        ("https://e.x/a/b/.", "https://e.x/a/b/"),
        ("https://e.x/a//b", "https://e.x/a//b"),
        ("https://e.x/A?b=c#d", "https://e.x/A"),
        ("https://e.x?b/../c", "https://e.x/"),
        ("https://e.x#/c", "https://e.x/"),
        ("custom://e.x:443/a", "custom://e.x:443/a"),
        ("https:///a", None),
        ("https://:443/a", None),
        ("//e.x/a", None),
        ("/a", None),
        ("mailto:a@e.x", None),
        ("", None),
    ],
)
def test_normalization(url: str, normalized: str | None) -> None:
    assert normalize(url) == normalized
